"""The page of benchmarks says what the records say; goals read the tables as they are printed."""

from __future__ import annotations

import pytest
from benchmarks.__main__ import parts
from benchmarks.goals import GOALS, Goal, Records, number, verdict
from benchmarks.guard import WATCHED, expected
from benchmarks.render import RESULTS, rendered


def test_the_page_is_that_of_the_records():
    """`python -m benchmarks --render` writes it."""
    assert RESULTS.read_text() == rendered(parts())


def test_every_goal_has_a_name_of_its_own_and_a_bound():
    assert len({goal.name for goal in GOALS}) == len(GOALS)
    assert all((goal.most is None) != (goal.least is None) for goal in GOALS)
    assert {goal.name.split(".")[0] for goal in GOALS} == set("23456789")
    nothing = Records([])
    assert {verdict(goal, nothing)[1] for goal in GOALS} == {"not measured"}


@pytest.mark.parametrize(
    "text, value",
    [
        ("9,131", 9131.0),
        ("12,345 (10,000)", 12345.0),
        ("0.0123 +- 0.004", 0.0123),
        ("13 steps (12-14), rate 0.1", 13.0),
        ("2e-05", 2e-5),
        ("not by 20,000", None),
        ("never steps (3-never)", None),
        ("> 0.18", None),
        ("", None),
    ],
)
def test_the_number_of_a_cell(text, value):
    assert number(text) == value


def _record(benchmark, case, output=(), rows=()):
    return {"benchmark": benchmark, "case": case, "output": list(output), "rows": list(rows)}


def test_goals_read_tables_of_every_kind():
    quality = (
        "### d = 2\n\n| sampler | 5 evaluations | 10 evaluations |\n|---|---|---|\n"
        "| steepest Anchored (the default) | 0.2 | 0.1 |\n| diffusers DDIM | 0.4 | 0.05 |\n"
    )
    bridge = [
        "| case | cBW2-UVP % | ± s.e. | floor | published | seconds |\n|---|---|---|---|---|---|",
        "| epsilon=0.1 d=2 | 0.0047 | 0.0003 | 0.001 | 0.03 | 12.1 |",
    ]
    head = "| sampler | gradients to low error | ESS / s | ESS / 1000 gradients |\n" + "|---" * 4
    rows = [
        f"### x\n\n{head}|",
        "| hmc | 9,131 | 500 | 150 |",
        "| NumPyro NUTS, dense | not by 1,000 | 100 | 90 |",
        "| BlackJAX MCLMC | 18,262 (9,000) | 50 | 30 |",
    ]
    cut = [  # who has not come to it by where he was cut
        f"### y\n\n{head}|",
        "| hmc | 1,000 | 5 | 5 |",
        "| NumPyro NUTS, dense | not by 3,000 | | |",
        "| BlackJAX NUTS, dense | not by 4,000 | | |",
        "| BlackJAX MCLMC | not by 900 | | |",
    ]
    behind = [
        f"### z\n\n{head}|",
        "| hmc | not by 5,000 | 5 | 5 |",
        "| BlackJAX NUTS, dense | 4,000 | | |",
        "| BlackJAX MCLMC | not by 9,000 | | |",
    ]
    brackets = (
        "| target | budget | in bracket | lower held |\n|---|---|---|---|\n"
        "| mixture of two | 2000 | 99 of 100 | 99 |\n| mixture of two | 8000 | 47 of 50 | 50 |"
    )
    certified = (
        "| method | family | certified |\n|---|---|---|\n| hmc | groups | yes |\n\n"
        "| method | runs | certified | beyond the bound |\n|---|---|---|---|\n"
        "| hmc | 240 | 50 | 2 |\n| all | 240 | 50 | 2 |"
    )
    timed = [
        {"contender": "Fisher, 512 rows, 4 products", "ratio": 1.0, "remark": "20 steps (19-21)"},
        {"contender": "optax.adam, tuned", "ratio": 3.0, "remark": "400 steps (390-410)"},
    ]
    found = Records(
        [
            _record("diffusion", "quality, d = 2", [quality]),
            _record("bridges", "epsilon=0.1 d=2", bridge),
            _record("posteriors", "logistic regression, d = 31", rows),
            _record("posteriors", "banana, d = 2", cut),
            _record("posteriors", "Rosenbrock, d = 36", behind),
            _record("optimizers", "perceptron", rows=timed),
            _record("evidence", "mixture of two", [brackets]),
            _record("calibration", "hmc", [certified]),
        ]
    )
    measured = {g.name: verdict(g, found) for g in GOALS if g.measure(found) is not None}
    start = "8.2 {} evaluations: Anchored / best of diffusers, the worst of two d, two errors"
    assert measured == {
        start.format(5): (0.5, "held"),
        start.format(10): (2.0, "missed"),
        "9.2 epsilon=0.1 d=2: cBW2-UVP %": (0.0047, "held"),
        "9.2 epsilon=0.1 d=2: seconds": (12.1, "held"),
        "6.3 logistic regression, d = 31: ESS / s, hmc / better NUTS": (5.0, "held"),
        "6.3 logistic regression, d = 31: ESS / 1000 gradients, hmc / better NUTS": (
            pytest.approx(150 / 90),
            "held",
        ),
        "6.3 logistic regression, d = 31: gradients, BlackJAX MCLMC / hmc": (2.0, "held"),
        "6.3 banana, d = 2: gradients, better NUTS / hmc": (3.0, "held"),
        "6.3 Rosenbrock, d = 36: gradients, better NUTS / hmc": (0.0, "missed"),
        "6.4 mixture of two: share of brackets with log Z": (0.94, "missed"),
        "6.5 share of certified answers beyond their bound": (0.04, "held"),
        "5.2 perceptron: steps, tuned Adam / Fisher": (20.0, "held"),
        "5.2 perceptron: fastest of Adam, momentum, muon / Fisher": (3.0, "held"),
    }


def test_a_goal_on_the_edge_is_held():
    assert verdict(Goal("a", lambda _: 1.1, most=1.1), Records([])) == (1.1, "held")
    assert verdict(Goal("a", lambda _: 1.1, least=1.2), Records([])) == (1.1, "missed")


def test_the_guard_expects_the_goal_or_what_was_recorded_where_that_is_more():
    name, case = WATCHED[0][-1], "langevin d=2"
    assert [expected(watched[-1], Records([])) for watched in WATCHED][-2:] == [1.05, 1.1]
    limit = {"contender": "hand-written limit", "ratio": 1.0}
    for ratio, bound in ((1.1, 1.3), (1.7, 1.7)):
        ours = {"contender": "steepest, ledger at saves", "ratio": ratio}
        assert expected(name, Records([_record("sampling", case, rows=[limit, ours])])) == bound
