"""Notes that are complete, and found by what they are about."""

from poise_jax.discovery.agents import literature


def test_every_note_is_complete():
  for note in literature.NOTES:
    assert note.tags and note.source
    assert note.claim.endswith(".") and note.caution.endswith(".")
  assert len({n.claim for n in literature.NOTES}) == len(literature.NOTES) >= 15


def test_those_on_the_subject_come_first():
  found = literature.chosen({"kl"}, most=3)
  assert len(found) == 3 and found[0].tags == ("kl",)
  assert literature.chosen() == literature.NOTES
  assert set(literature.chosen({"kl"})) == set(literature.NOTES)


def test_each_is_a_line_with_its_source():
  lines = literature.listed(literature.NOTES).split("\n")
  assert len(lines) == len(literature.NOTES)
  for line, note in zip(lines, literature.NOTES, strict=True):
    assert line.startswith("- [") and line.endswith(f"({note.source})")
