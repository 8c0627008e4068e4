"""The structure of the package: which way imports run, who knows Dagster, who writes a state, what a name means."""

import ast
from collections import defaultdict
from collections.abc import Iterator
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
    {"batching", "ledger", "alerting"},
    {"subscribers"},
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
    "subscribers.webhook",
    "testing.contract",
}

# Public classes that share a name today. None may be added.
TWO_MEANINGS = {
    "Progress",
}

# The modules that write the state of a manifest or of a delivery.
WRITES_STATES = {
    "ledger.deliveries",
    "ledger.parts",
    "ledger.planning",
    "ledger.readings",
    "ledger.splitting",
    "ledger.subscriptions",
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Name below the package → the module's syntax tree."""
    for path in sorted(ROOT.rglob("*.py")):
        if "versions" not in path.parts:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield (name if name == "__init__" else name.removesuffix(".__init__")), ast.parse(path.read_text("utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported when the program runs, also inside functions; not those for type checking."""
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
    """One name means one thing, but for those that are listed."""
    places = defaultdict(list)
    for module, tree in _modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name for name, modules in places.items() if len(modules) > 1} == TWO_MEANINGS


def test_who_writes_a_state() -> None:
    """The state of a manifest or of a delivery changes in the ledger's own modules only."""
    found = set()
    for module, tree in _modules():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values"):
                continue
            written = {keyword.arg for keyword in node.keywords}
            if "state" in written:
                found.add(module)
    assert found == WRITES_STATES
