"""The structure of the package: which way imports run, who knows Dagster, who writes a state, what a name means."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import export_pipeline

ROOT = Path(export_pipeline.__file__).parent

# From the bottom up: a package imports only from lines above its own.
FLOORS = (
    {"printable", "quantities"},
    {"errors"},
    {"secrets"},
    {"dagster_internals", "storage"},
    {"source"},
    {"batching"},
    {"ledger", "alerting"},
    {"metrics", "subscribers"},
    {"delivery"},
    {"configuration", "deployment"},
    {"steps", "testing", "sample_bucket"},
    {"orchestration"},
    {"celery_app", "cli", "definitions", "demo", "__init__"},
)
# The model of the deployment file and the parts it is made of: the generated page needs the whole.
SAME_FLOOR = {("configuration", "deployment"), ("deployment", "configuration"), ("cli", "demo")}

KNOWS_DAGSTER = {
    "celery_app",
    "definitions",
    "dagster_internals",
    "orchestration",
    "cli.instance",
    "cli.runs",
    "configuration.schedule",
    # A subscriber is a Dagster resource, and a secret of it an EnvVar.
    "subscribers.base",
    "subscribers.http_options",
    "subscribers.launchable",
    "subscribers.python",
    "subscribers.warehouse",
    "subscribers.webhook",
    "testing.contract",
}

# Who owns the states: the only modules that write one. The others ask them.
OWNS_STATES = {"ledger.deliveries", "ledger.manifests"}
# The states of records in the quarantine are words of the command line, which others name.
OWNS_STATES_OF_RECORDS = {"ledger.quarantined"}

# A state with a word of its own → the only modules that have a name with this word; the others ask a question of these.
CONFINED = {
    "given_up": {"cli.status", "ledger.deliveries", "ledger.inspection", "ledger.manifests", "steps.completeness"},
    "folded": {"ledger.folding", "ledger.manifests", "ledger.tables", "steps.retention"},
    "superseded": {"ledger.manifests"},
}

# Modules above the ledger that ask its tables themselves: sums for people who look, and none of a state.
READS_TABLES = {"cli.check", "demo"}


@cache
def _modules() -> tuple[tuple[str, ast.Module], ...]:
    """Name below the package, and the module's syntax tree."""
    return tuple(_parsed())


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        if "versions" not in path.parts:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield (name if name == "__init__" else name.removesuffix(".__init__")), ast.parse(path.read_text("utf-8"))


@cache
def _imports(tree: ast.Module) -> tuple[str, ...]:
    """Every module that is imported when the program runs, also inside functions; not those for type checking."""
    return tuple(_imported(tree))


def _imported(tree: ast.Module) -> Iterator[str]:
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_run_one_way() -> None:
    """No package imports from a floor above its own, and each stands on a floor."""
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    wrong, seen = [], set()
    for module, tree in _modules():
        package = module.partition(".")[0]
        seen.add(package)
        for imported in _imports(tree):
            target = imported.removeprefix("export_pipeline.").partition(".")[0]
            if not imported.startswith("export_pipeline.") or target == package or target not in floor_of:
                continue
            if floor_of[target] >= floor_of[package] and (package, target) not in SAME_FLOOR:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []
    assert seen == set(floor_of)


def test_who_knows_dagster() -> None:
    """Dagster is imported by the orchestration, the door for subscribers, and nobody else."""
    found = {
        module
        for module, tree in _modules()
        if any(name.partition(".")[0].partition("_")[0] == "dagster" for name in _imports(tree))
    }
    assert {name if name in KNOWS_DAGSTER else name.partition(".")[0] for name in found} == KNOWS_DAGSTER


def test_the_private_parts_of_dagster_are_in_one_file() -> None:
    """What Dagster may change without notice is imported by one module, so that an upgrade is read in one place."""
    found = {
        module
        for module, tree in _modules()
        if any(name.startswith("dagster") and "._" in name for name in _imports(tree))
    }
    assert found == {"dagster_internals"}


def test_a_public_class_has_a_name_of_its_own() -> None:
    """One name means one thing."""
    places = defaultdict(list)
    for module, tree in _modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def _written_columns(tree: ast.Module) -> Iterator[str]:
    """Names of columns in ``values(…)`` and in dictionaries, whichever way their keys are written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)
        elif isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value
                elif isinstance(key, ast.Attribute):
                    yield key.attr


def _states() -> dict[str, set[str]]:
    """Module that owns states → their names there."""
    names: dict[str, set[str]] = {}
    for module, tree in _modules():
        for node in tree.body if module in OWNS_STATES else ():
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                names.setdefault(f"export_pipeline.{module}", set()).update(
                    ast.unparse(one) for one in node.targets[0].elts
                )
    return names


def _state_names(tree: ast.Module, of_modules: dict[str, set[str]]) -> Iterator[int]:
    """The lines where a state is named in a comparison, or is handed to a statement of SQL."""
    texts = {"planned", "read", "given_up", "superseded", "owed", "delivered", "waived", "split"}
    local, modules = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in of_modules.get(node.module or "", ()):
                    local.add(alias.asname or alias.name)
                if (whole := f"{node.module}.{alias.name}") in of_modules:
                    modules[alias.asname or alias.name] = of_modules[whole]
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"in_", "where", "values"}:
            sides = [*node.args, *(keyword.value for keyword in node.keywords)]
        else:
            continue
        asks_state = any(isinstance(one, ast.Attribute) and one.attr == "state" for one in sides)
        for one in (inner for side in sides for inner in ast.walk(side) if isinstance(inner, ast.expr)):
            is_local = isinstance(one, ast.Name) and one.id in local
            is_named = isinstance(one, ast.Attribute) and one.attr in modules.get(ast.unparse(one.value), ())
            is_text = asks_state and isinstance(one, ast.Constant) and one.value in texts
            if is_local or is_named or is_text:
                yield one.lineno


def test_who_writes_a_state() -> None:
    """The state of a manifest, a delivery or a record changes in the modules of the ledger that own them."""
    found = {
        module
        for module, tree in _modules()
        if "state" in _written_columns(tree) and module.startswith(("ledger.", "steps."))
    }
    assert found == OWNS_STATES | OWNS_STATES_OF_RECORDS


def test_who_names_a_state() -> None:
    """Outside the ledger nobody compares a state with a name, nor asks the database for one: they ask the ledger."""
    of_modules = _states()
    assert of_modules.keys() == {f"export_pipeline.{module}" for module in OWNS_STATES}
    wrong = [
        f"{module}:{line}"
        for module, tree in _modules()
        if not module.startswith("ledger.")
        for line in _state_names(tree, of_modules)
    ]
    assert wrong == []


def _names(tree: ast.Module) -> Iterator[str]:
    """Every name in the code, of whatever; none of texts."""
    for node in ast.walk(tree):
        for value in (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname")):
            if isinstance(value, str):
                yield value


def test_a_state_is_a_case_in_few_modules() -> None:
    """What is special about a state of the ledger is known to the modules that own it, and to those that show it."""
    found = defaultdict(set)
    for module, tree in _modules():
        for name in {name.lower().replace("_", "") for name in _names(tree)}:
            for word in CONFINED:
                if word.replace("_", "") in name:
                    found[word].add(module)
    assert found == CONFINED


def test_who_reads_the_tables_of_the_ledger() -> None:
    """What the ledger's tables hold is asked of the ledger's modules, not of the tables."""
    found = {
        module
        for module, tree in _modules()
        if not module.startswith("ledger.") and "export_pipeline.ledger.tables" in _imports(tree)
    }
    assert found == READS_TABLES
