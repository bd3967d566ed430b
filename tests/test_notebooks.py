"""Cells of a notebook can be run again in any order that a reader tries: no later cell takes a name
that an earlier one needs. The parameters cell is short, and leaves all to the profile.
"""

import ast
import builtins
import re
from collections import defaultdict

import nbformat
import papermill
import pytest
from helpers import COMPREHENSIONS, DEFINITIONS, MODELS, NOTEBOOKS, bound, real_profile, settings_of

from kdig.study.settings import parameters, trains


def code_cells(path):
    """Source and tags by cell id."""
    cells = nbformat.read(path, as_version=4).cells
    return {
        cell.id: (cell.source, cell.metadata.get("tags", []))
        for cell in cells
        if cell.cell_type == "code"
    }


def rebound(cells, fields):
    """One line for each name that takes another's place."""
    kinds, found, prepared = defaultdict(set), [], set()
    for cell, (source, tags) in cells.items():
        if "parameters" in tags:
            continue
        tree = ast.parse(source)
        found += [
            f"{cell} takes the name of the parameter {name}"
            for name, _ in bound(tree)
            if name in fields
        ]
        kept = set(bound(tree, comprehensions=False))
        found += [
            f"{cell} takes the name of {name}, which the setup cell made"
            for name, _ in kept
            if name in prepared
        ]
        for name, kind in kept:
            kinds[name].add(kind)
        if "open_notebook(" in source:
            prepared = {name for name, _ in kept}
    return found + [
        f"{name} is {' and '.join(sorted(k))}" for name, k in kinds.items() if len(k) > 1
    ]


def loaded(source):
    """Names that a cell reads and that neither its functions nor its comprehensions make."""
    return set(_loads(ast.parse(source), set()))


def _loads(node, known):
    for child in ast.iter_child_nodes(node):
        own = known
        if isinstance(child, DEFINITIONS):
            arguments = {n.arg for n in ast.walk(child) if isinstance(n, ast.arg)}
            own = known | arguments | dict(bound(child)).keys()
        elif isinstance(child, COMPREHENSIONS):
            own = known | dict(bound(child)).keys()
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load) and child.id not in own:
            yield child.id
        yield from _loads(child, own)


EVERY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@EVERY
def test_no_name_is_taken_twice(path):
    assert rebound(code_cells(path), parameters(MODELS[path.stem])) == []


@EVERY
def test_the_cell_after_the_parameters_opens_the_notebook_under_its_own_name(path):
    cells = list(code_cells(path).values())
    assert [tags for _, tags in cells].index(["parameters"]) == 0
    assert f'kdig.open_notebook("{path.stem}", globals())' in cells[1][0]
    assert sum(source.count("open_notebook(") for source, _ in cells) == 1


@EVERY
def test_parameters_cell_holds_the_profile_and_a_few_overrides_that_are_none(path):
    """papermill and nbval run the cell as it is written: it must say what the profile says."""
    declared = papermill.inspect_notebook(str(path))
    defaults = {name: parameter["default"] for name, parameter in declared.items()}
    assert next(iter(defaults)) == "profile"
    assert defaults.pop("profile") == '"demo"'
    assert set(defaults.values()) <= {"None"}
    assert (2 <= len(defaults) <= 11) if trains(path) else (len(defaults) == 0)
    assert set(defaults) <= set(parameters(MODELS[path.stem]))
    assert all(parameter["help"] for parameter in declared.values()), "each has a comment"


@EVERY
def test_the_type_that_the_parameters_cell_declares_is_the_parameters(path):
    """A reader writes what it says."""
    declared = papermill.inspect_notebook(str(path))
    values = settings_of(path.stem, real_profile(path.stem)).flat()
    said = {name: parameter["inferred_type_name"] for name, parameter in declared.items()}
    kinds = {name: type(values[name]).__name__ for name in said if values[name] is not None}
    assert {name: said[name] for name in kinds} == kinds


@EVERY
def test_no_cell_reads_a_parameter_by_its_bare_name(path):
    """It is None where the profile's value holds: `settings` has the value."""
    found = {
        (cell, name)
        for cell, (source, tags) in code_cells(path).items()
        if "parameters" not in tags
        for name in loaded(source) & parameters(MODELS[path.stem]).keys()
    }
    assert found == set()


@EVERY
def test_every_name_that_a_cell_reads_is_made_before_it(path):
    made = {*dir(builtins), "get_ipython", "display"}
    for cell, (source, _) in code_cells(path).items():
        made |= dict(bound(ast.parse(source), comprehensions=False)).keys()
        assert loaded(source) <= made, cell


@EVERY
def test_every_setting_that_a_cell_reads_is_one(path):
    """`settings.<name>`, and the name of a group's parameter after it."""
    settings = settings_of(path.stem)
    for cell, (source, _) in code_cells(path).items():
        for names in map(chain, ast.walk(ast.parse(source))):
            if names[:1] == ["settings"] and len(names) > 1:
                assert names[1] in dir(type(settings)) or names[1] in dict(settings), (cell, names)
                group = dict(settings).get(names[1])
                assert len(names) < 3 or group is None or names[2] in dir(group), (cell, names)


@EVERY
def test_a_notebook_calls_no_setting_that_is_a_number(path):
    """As by `series.map(settings.level)`, where a table of its own was meant."""
    settings = settings_of(path.stem)
    for cell, (source, _) in code_cells(path).items():
        for node in ast.walk(ast.parse(source)):
            names = []
            if isinstance(node, ast.Subscript):
                names = chain(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                names = chain(node.args[0]) if node.func.attr == "map" and node.args else []
            if names[:1] == ["settings"] and len(names) == 2:
                assert isinstance(getattr(settings, names[1]), list), (cell, names)


def chain(node):
    """`a.b.c` as a list of names; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    before = chain(node.value) if isinstance(node, ast.Attribute) else []
    return [*before, node.attr] if before else []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_that_measures_times_says_that_it_runs_alone(path):
    code = "".join(source for source, _ in code_cells(path).values())
    timed = "latency." in code or "settings.times(" in code
    said = nbformat.read(path, as_version=4).metadata.get("kdig", {}).get("alone", False)
    assert said == timed == (path.stem in ("05_compression", "13_deployment"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_which_tables_of_others_it_reads(path):
    """It is run anew when they change."""
    book = nbformat.read(path, as_version=4)
    code = "\n".join(source for source, _ in code_cells(path).values())
    texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    tables = {
        text.removesuffix(".csv")
        for text in texts
        if re.fullmatch(r"\d\d_\w+\.csv", str(text)) and str(text)[:2] != path.stem[:2]
    }
    assert tables == ({"05_cold"} if path.stem == "09_released_results" else set())
    assert set(book.metadata.get("kdig", {}).get("reads", [])) == tables


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a + b", {"a", "b"}), ("a = 1", set()), ("f(a, key=b)", {"f", "a", "b"}),
        ("[x for x in a]", {"a"}), ("lambda x: x + a", {"a"}), ("a.b.c[d]", {"a", "d"}),
        ("def f(x):\n    y = a\n    return x + y", {"a"}), ("f'{a}'", {"a"}),
        ("with a as b: c", {"a", "c"}), ("def f():\n    return lambda x: [x, z]", {"z"}),
    ],
)  # fmt: skip
def test_names_that_are_read_are_found(source, names):
    assert loaded(source) == names


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("epochs = 3", "parameter epochs"), ("for epochs in []: pass", "parameter epochs"),
        ("with f() as epochs: pass", "parameter epochs"), ("import x as epochs", "parameter epochs"),
        ("a = [epochs for epochs in b]", "parameter epochs"), ("def epochs(): pass", "parameter epochs"),
        ("(c, epochs), d = e", "parameter epochs"), ("if x:\n    epochs += 1", "parameter epochs"),
        ("data = 1", "data, which the setup cell made"), ("helper = 1", "helper is definition and variable"),
        ("def f():\n    epochs = data = helper = 1", None), ("g = [data for data in b]", None),
    ],
)  # fmt: skip
def test_the_check_finds_every_way_to_take_a_name(source, said):
    sources = {
        "setup": "settings = kdig.open_notebook('04', globals())\ndata = settings.data()",
        "other": "def helper(): pass",
        "later": source,
    }
    cells = {
        "parameters": ("epochs = 1", ["parameters"]),
        **{cell: (text, []) for cell, text in sources.items()},
    }
    found = rebound(cells, {"epochs"})
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def lines(source):
    return [line for line in source.splitlines() if line.strip()]


def sentence_lines(source):
    """Numbers of the lines that `out.say` takes."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "out.say"
        for line in range(node.lineno, node.end_lineno + 1)
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short(path):
    """A cell that teaches fits a screen, and one that asks is a call with its caption."""
    cells = {
        cell: lines(source)
        for cell, (source, tags) in code_cells(path).items()
        if "parameters" not in tags
    }
    assert {cell: len(some) for cell, some in cells.items() if len(some) > 25} == {}
    # a sentence for a table, which takes a line or several, is not what a reader must follow
    said = {cell: len(sentence_lines(code_cells(path)[cell][0])) for cell in cells}
    # the primer writes out by hand what the others call
    limit = 300 if path.stem == "00_primer" else 220
    assert sum(map(len, cells.values())) - sum(said.values()) <= limit


# the chapters of which every result is said
CHAPTERS = [path for path in NOTEBOOKS if not path.stem.startswith("00")]
CHAPTER = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_never_goes_on_for_more_than_two_cells(path):
    """A reader who scrolls meets a sentence on every screen."""
    kinds = "".join(cell.cell_type[0] for cell in nbformat.read(path, as_version=4).cells)
    assert "ccc" not in kinds


def shown_and_said(source):
    """What a cell shows and says, in its order: `item` for a table or figure, `say`."""
    kinds = {"out.table": "item", "out.figure": "item", "out.say": "say"}
    found = [
        ((node.end_lineno, node.end_col_offset), kinds[ast.unparse(node.func)])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in kinds
    ]
    return [kind for _, kind in sorted(found)]


def unsaid(cells):
    """Cells that show a table or a figure after two of which nothing has been said, or the last of
    which nothing is said: a sentence may serve a table and the figure of its numbers.
    """
    found, waiting = [], []
    for cell, (source, _) in cells.items():
        for kind in shown_and_said(source):
            waiting = [] if kind == "say" else [*waiting, cell]
            if len(waiting) > 2 or (waiting and waiting[0] != cell and kind == "item"):
                found.append(waiting[0])
    return found + waiting


@CHAPTER
def test_of_every_table_and_figure_a_sentence_says_what_it_shows(path):
    assert unsaid(code_cells(path)) == []


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (["out.table(a)\nout.say(b)"], []), (["out.table(a)", "out.say(b)"], []),
        (["display(out.table(a).head())\nout.figure(b)\nout.say(c)"], []),
        (["out.say(a)\nout.table(b)"], ["0"]), (["out.table(a)", "out.table(b)\nout.say(c)"], ["0"]),
        (["out.table(a)\nout.table(b)\nout.figure(c)\nout.say(d)"], ["0"]),
        (["out.table(a)", "print(1)", "out.say(b)"], []), (["print(1)"], []),
    ],
)  # fmt: skip
def test_a_table_of_which_nothing_is_said_is_found(sources, said):
    assert unsaid({str(i): (source, []) for i, source in enumerate(sources)}) == said


@CHAPTER
def test_two_to_four_sentences_stand_in_the_box(path):
    source = "\n".join(source for source, _ in code_cells(path).values())
    loops = source.count("main=place < 3")  # the first three of a list
    mains = sum("main" in keywords for keywords in calls(source, "say")) + 2 * loops
    assert 2 <= mains <= 4
    setup = next(source for source, _ in code_cells(path).values() if "open_notebook(" in source)
    assert setup.splitlines()[-1] == "out.in_one_minute()"
    assert calls(source, "facts") or calls(source, "sum_up")


@CHAPTER
def test_a_notebook_can_be_learned_from_alone(path):
    """Header, quick checks with a fold each, exercises and references."""
    cells = {c.id: c.source for c in nbformat.read(path, as_version=4).cells}
    marks = ["<!-- header -->", "**You will be able to**", "**Before:**"]
    assert [mark for mark in marks if mark not in cells["title"]] == []
    folds = re.findall(
        r"<details><summary>Answer</summary>\n\n.+?\n\n</details>", cells["questions"], re.DOTALL
    )
    asked = re.findall(r"^\*\*\d\.\*\*", cells["questions"], re.MULTILINE)
    assert len(folds) == len(asked) >= 3
    tasks = re.findall(r"^\d\. \*\*(.+?)\.\*\*", cells["exercises"], re.MULTILINE)
    assert tasks == ["Predict, then run", "Predict, then run", "Open"]
    assert len(re.findall(r"^- .+\d{4}", cells["references"], re.MULTILINE)) >= 3


@CHAPTER
def test_exercises_change_what_there_is(path):
    """A parameter of the first code cell, with a value that the profile accepts; or a named cell."""
    text = next(c.source for c in nbformat.read(path, as_version=4).cells if c.id == "exercises")
    names = re.findall(r"`(\w+) = ([^`]+)`", text)
    if trains(path):
        assert len(names) >= 2
        for name, value in names:
            for profile in ("demo", real_profile(path.stem)):
                settings_of(path.stem, profile, **{name: ast.literal_eval(value)})
    for cell in re.findall(r"in the cell `([\w-]+)`|of the cell `([\w-]+)`", text.lower()):
        assert "".join(cell) in code_cells(path)


def calls(source, name):
    """Names of the keywords of each call of `out.<name>`."""
    return [
        {keyword.arg for keyword in node.keywords}
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"out.{name}"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_and_setup_stand_first_and_fold_on_the_web(path):
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.id for cell in cells[:3]] == ["title", "parameters", "setup"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_title_and_results_are_said(path):
    if path.stem.startswith(("00", "99")):  # whose captions are one sentence; which has no figure
        return
    sources = [source for source, _ in code_cells(path).values()]
    untitled = [c for source in sources for c in calls(source, "figure") if "title" not in c]
    assert not untitled
    assert any(calls(source, "say") for source in sources)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_text_is_about_one_profile(path):
    """A closing cell stands in the copies of every profile."""
    cells = nbformat.read(path, as_version=4).cells
    texts = {c.id: c.source for c in cells if c.cell_type == "markdown" and c.id != "title"}
    assert [name for name, text in texts.items() if "demo profile" in text] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_captions_hold_no_fingerprint(path):
    for cell, (source, _) in code_cells(path).items():
        for node in ast.walk(ast.parse(source)):
            named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0])
            if named in ("caption", "about", "where", "setting", "damage_about"):
                assert "data.label" not in ast.unparse(node.value), cell
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("out.table", "out.figure"):
                assert "data.label" not in ast.unparse(node), cell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tables_are_made_by_functions(path):
    """Names of facts and verdicts beside a table belong to the functions of `kdig.study.tables`."""
    source = "\n".join(source for source, _ in code_cells(path).values())
    assert "as_facts(" not in source
    assert ".verdicts(" not in source
