"""Chunks of two streams: text exact, numbers right, for any bytes in any cutting."""

from hypothesis import given
from hypothesis import strategies as st

from plue_runner.masking import Masker
from plue_runner.output import CHUNK_BYTES, Chunk, Chunker, StreamName

NAMES = st.sampled_from(["stdout", "stderr"])
BYTES = st.one_of(
    st.binary(max_size=12), st.text("ab\n", max_size=12).map(str.encode), st.just("é\n".encode())
)


def _chunker() -> Chunker:
    return Chunker(Masker([]), lambda _stream, _text: None)


def _ended(chunker: Chunker) -> list[Chunk]:
    chunker.close("stdout")
    chunker.close("stderr")
    return chunker.finish()


@given(st.lists(st.tuples(NAMES, BYTES, st.sampled_from([None, True, False]))))
def test_chunks_of_any_bytes_give_text_and_numbers_exactly(
    fed: list[tuple[StreamName, bytes, bool | None]],
) -> None:
    """Each stream's text is exact, and every line of both has one number of its own."""
    chunker = _chunker()
    chunks: list[Chunk] = []
    for name, data, take in fed:
        chunker.feed(name, data)
        if take is not None:
            chunks += chunker.take(fragments=take)
    chunks += _ended(chunker)
    for name in ("stdout", "stderr"):
        raw = b"".join(data for stream, data, _ in fed if stream == name)
        text = raw.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        assert text == "".join(c.text for c in chunks if c.stream == name)
    lines = _lines(chunks)
    assert sorted(lines) == list(range(1, len(lines) + 1))


def _lines(chunks: list[Chunk]) -> dict[int, str]:
    """Put the lines together by their numbers, as a reader of the log does."""
    lines: dict[int, str] = {}
    unfinished: dict[str, int] = {}
    for chunk in chunks:
        at = chunk.line
        parts = chunk.text.splitlines(keepends=True) if "\r" not in chunk.text else [chunk.text]
        parts = [p + "\n" for p in chunk.text.split("\n")]
        if chunk.text.endswith("\n"):
            parts.pop()
        for index, part in enumerate(parts):
            if index == 0 and chunk.stream in unfinished:
                assert at == unfinished.pop(chunk.stream)
                lines[at] += part
            else:
                assert at + index not in lines
                lines[at + index] = part
        if chunk.partial:
            assert not chunk.text.endswith("\n")
            unfinished[chunk.stream] = at + len(parts) - 1
    assert unfinished == {}
    return lines


def test_line_of_a_megabyte_leaves_in_partial_pieces() -> None:
    """A line longer than a chunk leaves in pieces that say so; all have its number."""
    chunker = _chunker()
    chunker.feed("stdout", b"x" * 1_000_000 + b"\nend\n")
    chunks = chunker.take(fragments=False) + _ended(chunker)
    assert "".join(c.text for c in chunks).encode() == b"x" * 1_000_000 + b"\nend\n"
    assert all(len(c.text) <= CHUNK_BYTES for c in chunks)
    assert [(c.line, c.partial) for c in chunks[:15]] == [(1, True)] * 15


def test_wide_characters_do_not_make_a_chunk_too_large() -> None:
    """A chunk's limit counts bytes of UTF-8."""
    chunker = _chunker()
    chunker.feed("stdout", b"\xff" * CHUNK_BYTES)
    chunks = chunker.take(fragments=True)
    assert max(len(c.text.encode()) for c in chunks) <= CHUNK_BYTES


def test_unfinished_line_waits_and_is_not_promised_to_go_on() -> None:
    """A last line without a newline is not partial when its end was known in time."""
    chunker = _chunker()
    chunker.feed("stdout", b"one\ntwo")
    assert [Chunk("stdout", "one\n", 1, partial=False)] == chunker.take(fragments=False)
    assert [Chunk("stdout", "two", 2, partial=False)] == _ended(chunker)


def test_promise_of_a_partial_line_is_kept_by_an_empty_end() -> None:
    """A line that left as partial and ended there is closed by an empty chunk."""
    chunker = _chunker()
    chunker.feed("stdout", b"prompt> ")
    assert [Chunk("stdout", "prompt> ", 1, partial=True)] == chunker.take(fragments=True)
    assert [Chunk("stdout", "", 1, partial=False)] == _ended(chunker)


def test_numbers_jump_after_a_line_that_the_other_stream_interrupted() -> None:
    """The rest of an interrupted line leaves alone, because the next line's number is higher."""
    chunker = _chunker()
    chunker.feed("stdout", b"be")
    chunks = chunker.take(fragments=True)
    chunker.feed("stderr", b"oops\n")
    chunker.feed("stdout", b"gin\nnext\n")
    chunks += chunker.take(fragments=True)
    assert [
        Chunk("stdout", "be", 1, partial=True),
        Chunk("stderr", "oops\n", 2, partial=False),
        Chunk("stdout", "gin\n", 1, partial=False),
        Chunk("stdout", "next\n", 3, partial=False),
    ] == chunks
