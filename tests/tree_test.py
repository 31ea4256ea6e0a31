"""The tree is as the README says: every module has a test and a line."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
MODULES = sorted(
    path.relative_to(ROOT)
    for folder in ("poise_jax", "launch", "experiments")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_file_has_a_line_in_the_readme(module):
  lines = (ROOT / "README.md").read_text("utf-8").splitlines()
  described = [
      line for line in lines if line.strip().startswith(module.name + " ")
  ]
  assert described, f"README.md has no line for {module}"


@pytest.mark.parametrize(
    "module",
    [m for m in MODULES if m.parts[0] in ("poise_jax", "launch")],
    ids=str,
)
def test_every_module_has_a_test(module):
  parts = module.parts[1:] if module.parts[0] == "poise_jax" else module.parts
  expected = ROOT.joinpath("tests", *parts).with_name(f"{module.stem}_test.py")
  assert expected.is_file()


def test_no_module_is_too_long():
  lengths = {
      str(module): len((ROOT / module).read_text("utf-8").splitlines())
      for module in MODULES
  }
  assert {name: n for name, n in lengths.items() if n > 400} == {}
