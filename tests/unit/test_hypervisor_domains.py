import pytest

from xenvirt.abi.ids import DOM0, DOMID_FIRST_RESERVED, DomId
from xenvirt.errors import HypercallError
from xenvirt.hypervisor.domains import DomainTable, check_name


def make_table() -> DomainTable:
    return DomainTable(now=0.0)


@pytest.mark.parametrize("name", ["a", "web", "7up", "x" * 32, "a.b-c_d", "_", "1.2"])
def test_good_names_are_taken(name: str) -> None:
    assert make_table().create(name, now=1.0).name == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "not 0"),
        ("x" * 33, "not 33"),
        ("12", "read as a domid"),
        ("Domain-0", "host's own"),
        ("-x", "begins with"),
        (".x", "begins with"),
        ("..", "begins with"),
        ("a/b", "other characters"),
        ("a b", "other characters"),
        ("web\n", "other characters"),
        ("wéb", "other characters"),
        ("\u0661\u0662", "other characters"),
    ],
)
def test_bad_names_are_refused_with_the_rule(name: str, says: str) -> None:
    with pytest.raises(HypercallError, match=says) as caught:
        check_name(name)
    assert caught.value.errno_name == "EINVAL"


def test_a_taken_name_is_refused_with_the_domid_that_has_it() -> None:
    table = make_table()
    table.create("db", now=1.0)
    table.create("web", now=1.0)
    with pytest.raises(HypercallError, match="domain 2 has the name web") as caught:
        table.create("web", now=2.0)
    assert caught.value.errno_name == "EEXIST"
    assert [domain.domid for domain in table] == [0, 1, 2]


def test_a_domid_comes_back_only_after_all_others() -> None:
    table = make_table()
    first = table.create("a", now=1.0)
    table.remove(first.domid)
    assert table.create("b", now=1.0).domid == 2


def test_domids_wrap_before_the_reserved_ones_and_skip_those_in_use() -> None:
    table = make_table()
    table.create("stays", now=1.0)
    for number in range(2, DOMID_FIRST_RESERVED):
        table.remove(table.create(f"d{number}", now=1.0).domid)
    assert table.create("after", now=1.0).domid == 2


def test_the_last_domid_is_0x7fef() -> None:
    table = make_table()
    last = DOM0
    for number in range(1, DOMID_FIRST_RESERVED):
        domain = table.create(f"d{number}", now=1.0)
        last = domain.domid
        if number > 1:
            table.remove(domain.domid)
    assert last == 0x7FEF


def test_domain_0_is_there_and_stays() -> None:
    table = make_table()
    assert table.get(DOM0).name == "Domain-0"
    with pytest.raises(HypercallError, match="domain 0"):
        table.remove(DOM0)


def test_an_unknown_domain_is_esrch() -> None:
    with pytest.raises(HypercallError, match="no domain 9") as caught:
        make_table().remove(DomId(9))
    assert caught.value.errno_name == "ESRCH"
