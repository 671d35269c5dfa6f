"""Reports of hand-made parametrizations: what each format prints, byte by byte."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from fractions import Fraction

import jsonschema
import pytest

from tpcalc.algebra.order import MINUS_INFINITY, ZERO
from tpcalc.algebra.size import Scalar, Size
from tpcalc.derive.result import Parametrization, Rule, Site, SliceRule
from tpcalc.document.program import program_json
from tpcalc.document.table import json_text, load_schema, table_json
from tpcalc.program.ir import InitLaw, Node, Program, Ref, Value, Weight
from tpcalc.program.names import fold, fold_names, mask_indices
from tpcalc.report import dot
from tpcalc.report.table import csv as report_csv
from tpcalc.report.table import latex, markdown
from tpcalc.report.table.rows import Power, slice_text, table_of
from tpcalc.report.table.text import table_text

N, VOCABULARY = Size.linear(), Size.constant(96)
SCALE = Scalar(2.0, Fraction(-1, 2))


def make_rule(name, shape, role, b, c, a=0, eps=0, gradient=ZERO, **more) -> Rule:
    a, b, c = Fraction(a), Fraction(b), Fraction(c)
    eps = None if eps is None else Fraction(eps)
    return Rule(name, shape, role, a, b, c, weight_decay=c, eps=eps, A=a + b, C=a + c, gradient=gradient, **more)


def make(*rules: Rule, **more) -> Parametrization:
    """As a derivation builds it: a tied weight's Rule stands under each of its names."""
    by_name = {name: rule for rule in rules for name in (rule.name, *rule.aliases)}
    return Parametrization(by_name, "adamw", (128, 256, 512), **more)


def small_gpt() -> Parametrization:
    """Tied embeddings, two equal blocks, a third that differs, packed weights, a site and notes."""
    rules = [make_rule("wte.weight", (VOCABULARY, N), "input", 0, 0, eps=-1, aliases=("head.weight",), reason="lookup")]
    for block in range(3):
        where = f"gives h{block + 7} (blocks.{block}.q, gpt.py:41)"
        rules.append(make_rule(f"blocks.{block}.attn.q.weight", (N, N), "hidden", "1/2", 1, reason=where))
        slices = (
            SliceRule(0, Size.constant(0), N, Fraction(1, 2), Fraction(1), "hidden", Fraction(1, 2), Fraction(1)),
            SliceRule(0, N, Size.constant(32), Fraction(1), Fraction(1), "output"),
        )
        rules.append(
            make_rule(
                f"blocks.{block}.attn.kv.weight",
                (Size.linear(1, 32), N),
                *("hidden", 1, 1),
                reason="packed",
                slices=slices if block == 2 else (),
            )
        )
    rules.append(make_rule("old.bias", (N,), "frozen", 0, 0, trainable=False, gradient=MINUS_INFINITY, reason="frozen"))
    return make(
        *rules,
        sites=tuple(
            Site("bmm", f"blocks.{block}.attn", "gpt.py:44", Fraction(1, 2), ZERO, f"divide blocks.{block}.attn by d")
            for block in range(2)
        ),
        assumptions=("tokens are uniform & independent",),
        notes=("a_b|c*d is 50% <odd>",),
        conventions=("Weight decay is decoupled.",),
    )


TEXT = """\
Scaling rules for adamw, n = width (traced at 128, 256, 512)

weight                       shape        role    init std  lr    weight decay  eps   why
----------------------------------------------------------------------------------------------------------------------
wte.weight = head.weight     [96, n]      input   1         1     1             n^-1  lookup
blocks.*.attn.q.weight       [n, n]       hidden  n^-1/2    n^-1  n             1     gives h* (blocks.*.q, gpt.py:41)
blocks.{0,1}.attn.kv.weight  [n + 32, n]  hidden  n^-1      n^-1  n             1     packed
blocks.2.attn.kv.weight      [n + 32, n]  hidden  n^-1      n^-1  n             1     packed
old.bias                     [n]          frozen  1         -     -             -     frozen

sites that need a multiplier:
  - blocks.{0,1}.attn (bmm, gpt.py:44): found n^1/2, needed 1; divide blocks.*.attn by d

slices with rules of their own:
  - blocks.2.attn.kv.weight[0 : n]: init std n^-1/2, lr n^-1 (hidden)
  - blocks.2.attn.kv.weight[n : n + 32]: init std n^-1, update n^-1 (output)

assumptions:
  - tokens are uniform & independent

notes:
  - a_b|c*d is 50% <odd>

conventions:
  - Weight decay is decoupled.
"""


def test_text():
    assert table_text(small_gpt()) == TEXT


def test_text_is_what_print_shows_and_never_cut():
    rules = make(make_rule("deep." * 60 + "weight", (N, N), "hidden", "1/2", 1, reason="because " * 60))
    assert str(rules) == table_text(rules)
    assert "deep." * 60 + "weight" in str(rules)
    assert "…" not in str(rules) and "..." not in str(rules)
    assert not any(line != line.rstrip() for line in str(rules).splitlines())


@pytest.mark.parametrize("columns", ["20", "80", "500"])
@pytest.mark.parametrize("term", ["dumb", "xterm-256color"])
def test_text_does_not_depend_on_the_terminal(monkeypatch, columns, term):
    expected = table_text(small_gpt())
    for name, value in {"COLUMNS": columns, "TERM": term, "FORCE_COLOR": "1", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    assert table_text(small_gpt()) == expected


def test_a_terminal_wraps_only_the_reason():
    rules = make(make_rule("layer.weight", (N, N), "hidden", "1/2", 1, reason="because " * 30 + "[n, n]"))
    lines = table_text(rules, width=110).splitlines()
    assert max(map(len, lines)) <= 110
    assert any("layer.weight" in line and "[n, n]" in line for line in lines)
    assert "".join(lines).count("because") == 30


def test_brackets_are_no_markup():
    printed = table_text(make(make_rule("w", (N,), "vector", 0, 0, reason="[bold]x[/bold] :smile: [red]")))
    assert "[bold]x[/bold] :smile: [red]" in printed and "[n]" in printed


def test_columns_that_say_nothing_are_left_out():
    sgd = make(make_rule("w", (N,), "vector", 0, 0, eps=None))
    assert "eps" not in table_of(sgd).columns and "multiplier" not in table_of(sgd).columns
    gauged = make(make_rule("w", (N,), "vector", 0, 0, a="1/2"), make_rule("v", (N,), "vector", 0, 0))
    assert "multiplier" in table_of(gauged).columns
    assert "n^-1/2" in table_text(gauged)


@pytest.mark.parametrize(
    "exponent, text",
    [("0", "1"), ("1", "n"), ("-1", "n^-1"), ("1/2", "n^1/2"), ("-3/2", "n^-3/2"), ("2", "n^2"), (None, "0")],
)
def test_powers(exponent, text):
    assert str(Power("n", MINUS_INFINITY if exponent is None else Fraction(exponent))) == text


def test_markdown():
    printed = markdown.table_markdown(small_gpt())
    lines = printed.splitlines()
    assert lines[:6] == [
        "**Scaling rules for adamw, n = width (traced at 128, 256, 512)**",
        "",
        "| weight | shape | role | init std | lr | weight decay | eps | why |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `wte.weight = head.weight` | `[96, n]` | input | 1 | 1 | 1 | n^-1 | lookup |",
        "| `blocks.*.attn.q.weight` | `[n, n]` | hidden | n^-1/2 | n^-1 | n | 1 "
        "| gives h\\* (blocks.\\*.q, gpt.py:41) |",
    ]
    assert "- a\\_b\\|c\\*d is 50% \\<odd\\>" in lines
    rows = [line for line in lines if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}
    assert printed.endswith("decoupled.\n")


def test_latex():
    printed = latex.table_latex(small_gpt())
    assert printed.splitlines()[:9] == [
        r"% needs \usepackage{booktabs}",
        r"\noindent Scaling rules for adamw, n = width (traced at 128, 256, 512)\par\medskip",
        r"\begin{tabular}{llllllll}",
        r"\toprule",
        r"weight & shape & role & init std & lr & weight decay & eps & why \\",
        r"\midrule",
        r"\texttt{wte.weight = head.weight} & \texttt{[96, n]} & input & $1$ & $1$ & $1$ & $n^{-1}$ & lookup \\",
        r"\texttt{blocks.*.attn.q.weight} & \texttt{[n, n]} & hidden & $n^{-1/2}$ & $n^{-1}$ & $n$ & $1$ "
        r"& gives h* (blocks.*.q, gpt.py:41) \\",
        r"\texttt{blocks.\{0,1\}.attn.kv.weight} & \texttt{[n + 32, n]} & hidden & $n^{-1}$ & $n^{-1}$ & $n$ & $1$ "
        r"& packed \\",
    ]
    assert r"\item {}a\_b\textbar{}c*d is 50\% \textless{}odd\textgreater{}" in printed
    assert r"\item {}tokens are uniform \& independent" in printed
    for environment in ("tabular", "itemize"):
        assert printed.count(rf"\begin{{{environment}}}") == printed.count(rf"\end{{{environment}}}")


def test_latex_escapes_every_special_character():
    assert latex.escape(r"\{}~^&%$#_") == (r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\&\%\$\#\_")


def test_csv():
    rules = small_gpt()
    printed = report_csv.table_csv(rules)
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["name"] for row in rows] == list(rules)
    assert printed.splitlines()[:2] == [
        "name,shape,role,a,b,c,weight_decay,eps,A,C,gradient,trainable,tied_to,optimizer,reason",
        'wte.weight,"[96, n]",input,0,0,0,0,-1,0,0,0,true,,,lookup',
    ]
    by_name = {row["name"]: row for row in rows}
    assert by_name["head.weight"]["tied_to"] == "wte.weight"
    assert by_name["old.bias"]["gradient"] == "-oo" and by_name["old.bias"]["trainable"] == "false"
    assert by_name["blocks.2.attn.q.weight"]["reason"] == "gives h9 (blocks.2.q, gpt.py:41)"
    assert "\r" not in printed and printed.endswith("\n")


def test_json_document():
    rules = small_gpt()
    document = table_json(rules)
    jsonschema.validate(document, load_schema())
    assert list(document) == [
        "schema", "optimizer", "gauge", "parametrization", "alignment", "scale", "weights", "clipping", "sites",
        "assumptions", "notes", "conventions",
    ]  # fmt: skip
    assert document["schema"] == "tpcalc/1"
    assert document["scale"] == {"symbol": "n", "base": None, "target": None}
    assert [weight["name"] for weight in document["weights"]] == list(rules)
    by_name = {weight["name"]: weight for weight in document["weights"]}
    assert by_name["wte.weight"]["tied_to"] is None and by_name["wte.weight"]["aliases"] == ["head.weight"]
    assert by_name["head.weight"]["tied_to"] == "wte.weight" and by_name["head.weight"]["aliases"] == ["wte.weight"]
    assert by_name["blocks.0.attn.q.weight"] == {
        "name": "blocks.0.attn.q.weight",
        "shape": ["n", "n"],
        "role": "hidden",
        "a": "0",
        "b": "1/2",
        "c": "1",
        "weight_decay": "1",
        "eps": "0",
        "A": "1/2",
        "C": "1",
        "gradient": "0",
        "trainable": True,
        "tied_to": None,
        "aliases": [],
        "reason": "gives h7 (blocks.0.q, gpt.py:41)",
        "slices": [],
        "optimizer": None,
        "shape_at": {"base": None, "target": None},
        "init_law": None,
        "init_std": {"base": None, "target": None, "code_at_target": None},
        "init_mean": {"base": None, "target": None, "code_at_target": None},
        "multipliers": dict.fromkeys(("init", "lr", "weight_decay", "eps", "clip", "forward")),
    }
    assert by_name["blocks.2.attn.kv.weight"]["slices"][1] == {
        "dim": 0, "start": "n", "length": "32", "role": "output", "A": "1", "C": "1", "b": None, "c": None,
        "start_at": {"base": None, "target": None},
        "length_at": {"base": None, "target": None},
        "init_std": {"base": None, "target": None, "code_at_target": None},
        "init_mean": {"base": None, "target": None, "code_at_target": None},
        "multipliers": {"init": None},
    }  # fmt: skip
    assert document["sites"][1]["found"] == "1/2" and document["sites"][1]["module"] == "blocks.1.attn"


def test_json_text():
    document = table_json(make(make_rule("gewicht.größe", (N,), "vector", 0, 0, eps=None)))
    text = json_text(document)
    assert json.loads(text) == document and text.endswith("}\n") and "größe" in text
    assert document["weights"][0]["eps"] is None
    jsonschema.validate(document, load_schema())
    with pytest.raises(ValueError):
        json_text({"x": float("nan")})


@pytest.mark.parametrize(
    "path, value",
    [
        (("schema",), "tpcalc/2"),
        (("weights", 0, "b"), 0.5),
        (("weights", 0, "b"), "0.5"),
        (("weights", 0, "b"), "1/0"),
        (("weights", 0, "b"), "-oo"),
        (("weights", 0, "role"), "readout"),
        (("weights", 0, "multipliers", "lr"), "1"),
        (("weights", 0, "shape"), "[n]"),
        (("scale", "base"), "256"),
        (("sites", 0, "found"), None),
    ],
)
def test_the_schema_refuses(path, value):
    document = table_json(small_gpt())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, load_schema())


def test_the_schema_takes_exact_multipliers():
    """What an export fills in is the same document."""
    document = table_json(small_gpt())
    document["scale"] |= {"base": 256, "target": 4096}
    document["weights"][1]["init_std"] = {"base": 0.02, "target": 0.005, "code_at_target": 0.02}
    document["weights"][1]["multipliers"] = {"init": 0.25, "lr": 0.0625, "weight_decay": 16, "eps": 1, "clip": 1}
    jsonschema.validate(document, load_schema())
    jsonschema.Draft202012Validator.check_schema(load_schema())


@pytest.mark.parametrize(
    "render", [table_text, markdown.table_markdown, latex.table_latex, report_csv.table_csv, table_json]
)
def test_reports_are_deterministic_and_take_an_empty_table(render):
    assert render(small_gpt()) == render(small_gpt())
    assert render(make())


FOLDING = [
    ("one name", [("a.weight", 1)], ["a.weight"]),
    ("one block is no repetition", [("blocks.0.w", 1)], ["blocks.0.w"]),
    ("all agree", [(f"blocks.{i}.w", 1) for i in range(12)], ["blocks.*.w"]),
    ("two weights of a block", [(f"b.{i}.{w}", w) for i in range(3) for w in "qk"], ["b.*.q", "b.*.k"]),
    ("last differs", [(f"b.{i}.w", i == 3) for i in range(4)], ["b.{0..2}.w", "b.3.w"]),
    ("first differs", [(f"b.{i}.w", i == 0) for i in range(3)], ["b.0.w", "b.{1,2}.w"]),
    ("alternating", [(f"b.{i}.w", i % 2) for i in range(6)], ["b.{0,2,4}.w", "b.{1,3,5}.w"]),
    ("mixed runs", [(f"b.{i}.w", i in (3, 4)) for i in range(9)], ["b.{0..2,5..8}.w", "b.{3,4}.w"]),
    ("experts", [(f"b.{i}.e.{j}.w", 0) for i in range(2) for j in range(4)], ["b.*.e.*.w"]),
    (
        "one odd expert",
        [(f"b.{i}.e.{j}.w", (i, j) == (1, 2)) for i in range(2) for j in range(3)],
        ["b.0.e.*.w", "b.1.e.{0,1}.w", "b.1.e.2.w"],
    ),
    ("order of the model", [("z.w", 0), ("b.0.w", 0), ("a.w", 0), ("b.1.w", 0)], ["z.w", "b.*.w", "a.w"]),
    ("names on top", [("0.weight", 1), ("2.weight", 2), ("4.weight", 1)], ["{0,4}.weight", "2.weight"]),
    ("digits in a word", [("layer1.w", 1), ("layer2.w", 1)], ["layer1.w", "layer2.w"]),
    ("no canonical number", [("b.01.w", 1), ("b.1.w", 1)], ["b.01.w", "b.1.w"]),
    ("a number at the end", [("scale.0", 1), ("scale.1", 1)], ["scale.*"]),
    ("different depth", [("b.0.w", 1), ("b.0.1.w", 1)], ["b.0.w", "b.0.1.w"]),
    ("numeric order", [("b.10.w", 1), ("b.9.w", 1), ("b.2.w", 2)], ["b.{9,10}.w", "b.2.w"]),
]


@pytest.mark.parametrize("items, expected", [case[1:] for case in FOLDING], ids=[case[0] for case in FOLDING])
def test_fold(items, expected):
    rows = fold(items)
    assert [row.name for row in rows] == expected
    stands_for = [name for row in rows for name in row.names]
    assert sorted(stands_for) == sorted(name for name, _ in items), "every name once"
    keys = dict(items)
    assert all(len({keys[name] for name in row.names}) == 1 for row in rows), "only equal rows fold"


def test_fold_names_writes_ranges_out():
    assert fold_names(f"l.{i}.w" for i in range(1, 12)) == ["l.{1..11}.w"]


DIFFERENCES = {
    "b": Fraction(1),
    "c": Fraction(1, 2),
    "a": Fraction(1),
    "eps": Fraction(1),
    "weight_decay": Fraction(0),
    "role": "output",
    "shape": (N, VOCABULARY),
    "trainable": False,
    "reason": "another reason",
    "slices": (SliceRule(0, N, N, ZERO, ZERO),),
}


@pytest.mark.parametrize("field", DIFFERENCES)
def test_blocks_fold_only_where_everything_shown_agrees(field):
    rules = [make_rule(f"b.{i}.w", (N, N), "hidden", "1/2", 1, reason=f"gives h{i} (b.{i}.w)") for i in range(3)]
    assert [row[0].text for row in table_of(make(*rules)).rows] == ["b.*.w"]
    rules[1] = replace(rules[1], **{field: DIFFERENCES[field]})
    assert [row[0].text for row in table_of(make(*rules)).rows] == ["b.{0,2}.w", "b.1.w"]


def test_shared_layers_show_their_aliases_folded():
    rule = make_rule("l.0.w", (N, N), "hidden", "1/2", 1, aliases=tuple(f"l.{i}.w" for i in range(1, 5)))
    assert [row[0].text for row in table_of(make(rule)).rows] == ["l.0.w = l.{1..4}.w"]


def test_mask_indices():
    assert mask_indices("h12 (blocks.3.attn.q, gpt.py:41) <= 1/2") == "h* (blocks.*.attn.q, gpt.py:41) <= 1/2"
    assert mask_indices("l.0.e.11.w and 4.weight, n^0.5, n/16 + 32") == "l.*.e.*.w and *.weight, n^0.5, n/16 + 32"


def test_slice_of_a_column():
    piece = SliceRule(1, Size.linear(2), Size.linear(Fraction(1, 16), 8), ZERO, ZERO, b=ZERO, c=ZERO)
    assert slice_text("w", piece, "n") == "w[:, 2*n : 33*n/16 + 8]: init std 1, lr 1"
    assert slice_text("w", piece, "n", trainable=False) == "w[:, 2*n : 33*n/16 + 8]: init std 1"


def small_program() -> Program:
    values = {
        0: Value(0, (VOCABULARY, N), "float32", "weight", 'odd "name"\\w'),
        1: Value(1, (N, Size.constant(4)), "float32", "input", "x", Scalar.of(2.0)),
        2: Value(2, (VOCABULARY, Size.constant(4)), "float32"),
        3: Value(3, (VOCABULARY, Size.constant(4)), "float32"),
        4: Value(4, (VOCABULARY, N), "float32"),
    }
    nodes = (
        Node(0, "aten.mm.default", (Ref(0), Ref(1)), (), (2,), "head", "gpt.py:41"),
        Node(1, "aten.mul.Scalar", (Ref(2), SCALE), (("x", float("-inf")),), (3,), "", "gpt.py:42"),
        Node(2, "aten.expand.default", (Ref(3), (N, 4, True, None)), (), (4, None), phase="backward"),
    )
    init = tuple((width, InitLaw("random", 0.02, 0.0, "normal_(std=0.02)")) for width in (128, 256, 512))
    weight = Weight('odd "name"\\w', 0, (VOCABULARY, N), grad=4, aliases=("tied",), module_type="Linear", init=init)
    return Program((128, 256, 512), nodes, values, (weight,), (1,), (("logits", 3),), grads={0: 4}, assumptions=("x",))


def test_dot():
    assert (
        dot.program_dot(small_program())
        == r"""digraph program {
  rankdir=TB;
  node [shape=box];
  n0 [label="mm\nhead, gpt.py:41", style="solid"];
  v0 [label="odd \"name\"\\w : V[n]", shape="ellipse", style="bold"];
  v1 [label="x : V[n]", shape="ellipse", style="solid"];
  n1 [label="mul\ngpt.py:42", style="solid"];
  n2 [label="expand", style="dashed"];
  n0 -> n1 [label="h2 : S"];
  v0 -> n0 [label="odd \"name\"\\w : V[n]"];
  v1 -> n0 [label="x : V[n]"];
  n1 -> n2 [label="h3 : S"];
  out0 [label="return logits", shape="plaintext"];
  n1 -> out0 [label="h3 : S"];
}
"""
    )


def test_program_json():
    document = program_json(small_program())
    assert json.loads(json_text(document)) == document
    assert document["schema"] == "tpcalc-program/1" and document["widths"] == [128, 256, 512]
    assert document["nodes"][1]["args"] == [{"value": 2}, {"scalar": "2*n^(-1/2)"}]
    assert document["nodes"][1]["kwargs"] == {"x": {"float": "-inf"}}
    assert document["nodes"][2]["args"][1] == [{"size": "n"}, 4, True, None]
    assert document["nodes"][2]["outputs"] == [4, None]
    assert document["weights"][0]["aliases"] == ["tied"] and document["weights"][0]["init"][0]["std"] == 0.02
    assert document["values"][0]["growths"] == ["0", "1"] and document["values"][1]["magnitude"] == "2"
    assert document["outputs"] == [{"path": "logits", "value": 3}]
