"""Names of columns: dlt's where it made the table, and never one for two members."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from export_pipeline.subscribers.warehouse_columns import Column, Owner, TableColumns, in_snake_case, is_reserved

MEMBERS = st.lists(st.text(min_size=0, max_size=90), min_size=1, max_size=12, unique=True)
LIKE = st.lists(st.text("aA_. é1ε", max_size=5), min_size=1, max_size=12, unique=True)


@settings(deadline=None)  # another process may have the machine
@given(st.text(min_size=1))
@example("))")
@example("a)_)")
def test_a_name_is_the_one_that_dlt_gives(member: str) -> None:
    """So that a table created by dlt is continued with its columns, and dlt leaves our names unchanged."""
    from dlt.common.normalizers.naming.snake_case import NamingConvention

    naming = NamingConvention()
    name = in_snake_case(member, ascii_only=True)
    assert naming.normalize_identifier(name) == name
    if member.isascii() and member.strip():
        assert name == (naming.normalize_identifier(member) or "unnamed")


def after(members: list[str], existing: list[Column], owners: dict[str, Owner]) -> TableColumns:
    """The columns after a batch with *members*."""
    columns = TableColumns(existing, owners, max_name_bytes=63, max_columns=1_000)
    for member in sorted(members, key=columns.sort_key):
        if member not in columns.slots and columns.claim(member) is None:
            columns.add(member, "text")
    return columns


@settings(deadline=None)  # another process may have the machine
@given(st.one_of(MEMBERS, LIKE), st.one_of(MEMBERS, LIKE))
def test_no_two_members_share_a_column_and_none_moves(first: list[str], second: list[str]) -> None:
    """Whatever batches bring: a name each, that PostgreSQL takes, and the same ever after."""
    one = after(first, [], {})
    two = after([*second, *first], one.added, one.claimed)
    names = {member: slot.column.name for member, slot in two.slots.items()}
    assert len({name.lower() for name in names.values()}) == len(names) == len({*first, *second})
    assert {member: names[member] for member in first} == {m: s.column.name for m, s in one.slots.items()}
    assert not [name for name in names.values() if is_reserved(name) or not 0 < len(name.encode()) <= 63]


def test_a_column_with_a_members_hash_is_that_members() -> None:
    """dlt's table tells by it whose the column is, though nobody kept note."""
    existing = [Column("user_id", "text"), Column("user_id_x6ccb21", "text")]
    columns = TableColumns(existing, {}, max_name_bytes=63, max_columns=1_000)
    slot = columns.claim("userId")
    assert slot is not None
    assert slot.column.name == "user_id_x6ccb21"
    assert columns.claim("UserId") is not None
    assert columns.claim("user_id") is None


def test_a_variant_has_a_name_that_is_short_enough() -> None:
    """And it goes on from where the table has it."""
    columns = TableColumns([], {}, max_name_bytes=63, max_columns=1_000)
    columns.add("k" * 63, "bigint")
    variant = columns.variant("k" * 63, "double", may_add=True)
    assert variant is not None
    assert variant.name.endswith("__v_double")
    assert len(variant.name) == 63
    again = TableColumns(columns.added, columns.claimed, max_name_bytes=63, max_columns=1_000)
    assert again.variant("k" * 63, "double", may_add=False) == variant
