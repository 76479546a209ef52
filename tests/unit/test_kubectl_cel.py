"""CEL as the API server computes it: https://github.com/google/cel-spec."""

from __future__ import annotations

from typing import Any

import pytest

from wan_operator.kubectl.cel import CelError, CelSyntaxError, compiled

SELF = {
    "frames": 50,
    "name": "a.b",
    "items": [{"name": "x", "on": True}, {"name": "y"}],
    "labels": {"team": "a"},
    "size": {"width": 16},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(self.frames - 1) % 4 == 0", False),
        ("1 + 2 * 3 - 4", 3),
        ("2 - 1 - 1", 0),
        ("-7 / 2", -3),
        ("-7 % 4", -3),
        ("7 / 2 * 2 == 6 && !false", True),
        ("!(self.frames in [48, 49])", True),
        ("self.frames in [50] == true", True),
        ("'team' in self.labels", True),
        ("self.frames > 49 ? 'many' : 'few'", "many"),
        ("false ? 1 : true ? 2 : 3", 2),
        ("has(self.size.width) && !has(self.size.height)", True),
        ("self.items.exists(each, each.name == 'y')", True),
        ("self.items.all(each, has(each.on))", False),
        ("self.items.filter(each, has(each.on)).map(each, each.name)", ["x"]),
        ("self.items[1].name", "y"),
        ("self.labels.all(key, key.matches('^[a-z]+$'))", True),
        ("[has(self.name), has(self.none)].filter(each, each).size() == 1", True),
        ("self.name.split('.').size()", 2),
        ("'it is \"%s\", %d of %s'.format([self.name, 2, ['a']])", 'it is "a.b", 2 of ["a"]'),
        ("'don\\'t'", "don't"),
        ("'{a} {b}'.replace('{a}', '').find('[{][a-z]+[}]')", "{b}"),
        ("isQuantity('two') || quantity('1Gi').isGreaterThan(quantity('1G'))", True),
        ("self.none == 1 || true", True),
        ("false && self.none == 1", False),
        ("self.items.exists(each, each.on)", True),
        ("[0, 1].exists(each, 1 / each > 0)", True),
        ("'é'.size()", 1),
        ("self.frames > 49.5", True),
        ("'%s, %s'.format([1.0, 0.00001])", "1, 1e-05"),
        ("quantity(self.name).isLessThan(quantity('1')) || true", True),
    ],
)  # fmt: skip
def test_values(expression: str, value: Any) -> None:
    assert compiled(expression)({"self": SELF}) == value


@pytest.mark.parametrize(
    ("pattern", "text", "is_there"),
    [
        ("^a$", "a\n", False),
        ("^\\\\d$", "٣", False),
        ("b", "abc", True),
        ("^(a|b)+$", "aab", True),
        ("[.]$", "a.", True),
    ],
)
def test_patterns_are_those_of_re2(pattern: str, text: str, is_there: bool) -> None:
    assert compiled(f"self.matches('{pattern}')")({"self": text}) is is_there


@pytest.mark.parametrize(
    "expression",
    [
        "self.none", "self.none || false", "true && self.none", "self.items[2]", "1 / 0",
        "quantity('two').isLessThan(quantity('1'))", "self.items.all(each, each.on)",
        "self.frames * 0.5 > 1.0", "self.frames && true", "self.frames.find('5') == ''",
    ],
)  # fmt: skip
def test_errors(expression: str) -> None:
    with pytest.raises(CelError):
        compiled(expression)({"self": SELF})


@pytest.mark.parametrize(
    "expression",
    ["", "1 +", "self.frames = 1", "self.trim()", "now()", "[1", "'a", "a b", "has(1)", "x ? 1"],
)
def test_what_is_not_known_is_told(expression: str) -> None:
    with pytest.raises(CelSyntaxError):
        compiled(expression)
