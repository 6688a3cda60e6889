"""The picture of a call."""

from __future__ import annotations

import struct
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.lab.figures import picture
from gateway.lab.figures.picture import Mark, draw_call

pytestmark = pytest.mark.unit

RATE_HZ = 8000
VOICE = struct.pack("<4h", 0, 9000, 0, -9000) * 4000  # 2 s


def size_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_a_call_becomes_a_png_with_room_for_its_labels(tmp_path: Path) -> None:
    marks = [Mark(-0.3, "ringing"), Mark(0, "answered"), Mark(0.05, "first agent audio"), Mark(2, "hang-up")]
    draw_call(tmp_path / "out" / "call.png", RATE_HZ, VOICE, VOICE[:8000], marks)
    draw_call(tmp_path / "bare.png", RATE_HZ, VOICE, VOICE, [])
    width, height = size_of(tmp_path / "out" / "call.png")
    assert width == 1560
    assert height > size_of(tmp_path / "bare.png")[1]


def test_a_call_without_audio_is_drawn_too(tmp_path: Path) -> None:
    draw_call(tmp_path / "call.png", RATE_HZ, b"", b"\x01", [Mark(0, "refused")])
    assert size_of(tmp_path / "call.png")[0] == 1560


def test_the_waveforms_are_drawn_in_their_colours_where_there_is_voice(tmp_path: Path) -> None:
    from matplotlib.image import imread

    draw_call(tmp_path / "call.png", RATE_HZ, VOICE + bytes(32000), bytes(32000) + VOICE, [])
    pixels = imread(tmp_path / "call.png")
    blue = (pixels[:, :, 2] - pixels[:, :, 0] > 0.3) & (pixels[:, :, 2] > 0.6)
    brown = (pixels[:, :, 0] - pixels[:, :, 2] > 0.3) & (pixels[:, :, 0] > 0.6)
    width = pixels.shape[1]
    assert blue[:, width // 4].sum() > 100 > blue[:, 3 * width // 4].sum()
    assert brown[:, 3 * width // 4].sum() > 100 > brown[:, width // 4].sum()


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"file/call\.png"):
        draw_call(tmp_path / "file" / "call.png", RATE_HZ, VOICE, VOICE, [])


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'sip-voice-gateway\[lab\]'"):
        draw_call(tmp_path / "call.png", RATE_HZ, VOICE, VOICE, [])


@given(
    st.lists(st.tuples(st.floats(-2, 30), st.floats(10, 200)), max_size=14),
    st.floats(0, 30),
)
def test_no_label_covers_another_or_a_line_or_leaves_the_picture(
    places: list[tuple[float, float]], length_s: float
) -> None:
    labels = [picture._Label(at_s, "", width_px) for at_s, width_px in sorted(places)]
    start, end = picture._time_span(length_s, labels)
    rows = picture._label_rows(labels, (start, end))
    px_per_s = picture._PLOT_PX / (end - start)
    assert len(rows) == len(labels)
    boxes = [((label.at_s - start) * px_per_s, label.width_px, row) for label, row in zip(labels, rows, strict=True)]
    assert all(left >= 0 and left + width <= picture._PLOT_PX + 1e-6 for left, width, _ in boxes)
    for (left, width, row), (later_left, _, later_row) in combinations(boxes, 2):
        if row == later_row:
            assert left + width < later_left  # beside it
        if later_row > row:
            assert left + width < later_left  # a line that rises higher passes no text
