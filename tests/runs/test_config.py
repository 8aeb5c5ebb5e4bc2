import argparse
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.errors import ScxError
from scx_core.runs import add_arguments, check, from_dict, from_namespace, option, options_of, to_dict


@dataclass(frozen=True)
class Settings:
    steps: int = option(100, "How many steps", minimum=1, maximum=1000, unit="steps")
    rate: float = option(1e-3, "Step size, 100% yours", minimum=0.0)
    kind: str = option("relu", "Activation", choices=("relu", "topk"))
    decay: bool = option(False, "Decay the rate")
    target: float | None = option(None, "Wanted L0", minimum=1, unsaid="as it comes")
    mode: Literal["cell", "type"] = option("cell", "What is explained")


@dataclass(frozen=True)
class Checked(Settings):
    def __post_init__(self) -> None:
        check(self)


def parse(words: list[str], base: Settings | None = None) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings)
    return from_namespace(Settings, parser.parse_args(words), base)


def test_options_carry_everything_a_form_needs():
    steps, rate, kind, decay, target, mode = options_of(Settings)
    assert steps == ("steps", int, 100, "How many steps", None, 1, 1000, "steps", False, "")
    assert kind.choices == ("relu", "topk")
    assert mode.choices == ("cell", "type") and mode.type is str
    assert target.optional and target.type is float and decay.type is bool and rate.minimum == 0.0


def test_the_help_says_what_no_value_means():
    def words(base=None):
        parser = argparse.ArgumentParser()
        add_arguments(parser, Settings, base=base)
        return " ".join(parser.format_help().split())

    assert "Wanted L0, at least 1 (default: as it comes)" in words()
    assert "(default: 16.0)" in words(Settings(target=16.0))


def test_command_line_gives_typed_values_over_a_preset():
    base = Settings(steps=7, kind="topk")
    config = parse(["--rate", "0.5", "--decay", "--target", "16"], base)
    assert config == Settings(steps=7, kind="topk", rate=0.5, decay=True, target=16.0)
    assert isinstance(config.target, float)
    assert parse(["--target", "none", "--no-decay"]) == Settings()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--steps", "0"], ["--steps", "'0'", "1 to 1000 steps"]),
        (["--steps", "1001"], ["--steps", "1 to 1000"]),
        (["--steps", "ten"], ["--steps", "'ten'", "whole number"]),
        (["--steps", "1.5"], ["--steps", "whole number"]),
        (["--rate", "nan"], ["--rate", "a number"]),
        (["--rate", "-1"], ["--rate", "at least 0.0"]),
        (["--kind", "gelu"], ["--kind", "'gelu'", "relu, topk"]),
        (["--target", "0"], ["--target", "at least 1", "or none"]),
        (["--steps", "none"], ["--steps", "whole number"]),
        (["--mode", "tissue"], ["--mode", "cell, type"]),
    ],
)
def test_bad_values_are_named_with_their_limits(words, parts):
    with pytest.raises(ScxError) as caught:
        parse(words)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_help_shows_limits_and_default(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings)
    parser.print_help()
    shown = " ".join(capsys.readouterr().out.split())
    assert "How many steps, 1 to 1000 steps (default: 100)" in shown
    assert "100% yours" in shown and "{relu,topk}" in shown


def test_help_shows_what_a_preset_has_instead(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser, Settings, base=Settings(steps=7))
    parser.print_help()
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 to 1000 steps (default: 7)" in shown
    assert parse([], Settings(steps=7)).steps == 7 == Settings(steps=7).steps


def test_skipped_options_are_left_to_the_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    add_arguments(parser, Settings, skip=("steps",))
    assert from_namespace(Settings, parser.parse_args([])).steps == 3


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"stepz": 1}, "stepz"),
        ({"steps": True}, "steps"),
        ({"steps": "5"}, "steps"),
        ({"decay": 1}, "true or false"),
        ({"kind": None}, "kind"),
        ({"rate": float("inf")}, "rate"),
    ],
)
def test_json_of_the_wrong_kind_is_refused(data, part):
    with pytest.raises(ScxError, match=part):
        from_dict(Settings, data)


@dataclass(frozen=True)
class Nested:
    named: str
    inner: Settings = field(default_factory=Settings)


@pytest.mark.parametrize(
    ("cls", "data", "part"),
    [
        *(
            (Settings, data, "Settings is .*expected an object")
            for data in (None, 3, "x", [1], [["steps", 3]])
        ),
        *((Nested, {"named": "a", "inner": data}, "Settings is") for data in (None, "x", [])),
        (Nested, {"inner": {}}, "Nested is not complete .*named"),
    ],
)
def test_json_that_is_no_object_of_settings_is_refused_and_not_read(cls, data, part):
    with pytest.raises(ScxError, match=part):
        from_dict(cls, data)


def test_check_looks_at_a_config_made_in_code():
    with pytest.raises(ScxError, match="steps"):
        Checked(steps=-3)


@given(
    st.builds(
        Settings,
        steps=st.integers(1, 1000),
        rate=st.floats(0, 1e6),
        kind=st.sampled_from(["relu", "topk"]),
        decay=st.booleans(),
        target=st.none() | st.floats(1, 1e6),
    )
)
def test_dict_and_command_line_give_the_config_back(config):
    assert from_dict(Settings, to_dict(config)) == config
    words = [f"--steps={config.steps}", f"--rate={config.rate!r}", f"--kind={config.kind}"]
    words += ["--decay" if config.decay else "--no-decay", f"--target={config.target!r}"]
    assert parse(words) == config


def test_an_option_that_no_form_can_show_is_refused():
    @dataclass(frozen=True)
    class Odd:
        values: list = option(None, "Many")

    with pytest.raises(TypeError, match="Odd.values"):
        options_of(Odd)
