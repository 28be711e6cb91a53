"""Pictures of strangers are taken for what they are, and nothing that they are takes us down."""

from __future__ import annotations

import io
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from services.imports import pictures
from services.imports.pictures import (
    TEXTS,
    DecoderTrouble,
    NotAPicture,
    Prepared,
    child,
    decode,
    examine,
    original_key,
    prepare,
    sniff,
    thumbnail,
    thumbnail_key,
)
from shared.blobs import check_key
from tests.services.imports.malformed import (
    END,
    GOOD,
    OTHERS,
    PIXELS,
    PNG_SUITE,
    SIGNATURE,
    bombs,
    broken,
    chunk,
    encoded,
    flat_webp,
    header,
    ztxt,
)

ROOT = Path(__file__).parents[3]
MOST = 50_000_000
KINDS = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


def look(content: bytes, path: Path, most: int = MOST) -> Prepared:
    path.write_bytes(content)
    with path.open("rb") as file:
        return prepare(file, max_pixels=most)


def refusal(content: bytes, path: Path, most: int = MOST) -> str:
    with pytest.raises(NotAPicture) as caught:
        look(content, path, most)
    return caught.value.code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "picture"


def shown(thumbnail: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(thumbnail))
    assert image.format == "WEBP"
    assert max(image.size) <= 256
    return image


MODES = {
    "JPEG": ("RGB", "L", "1", "CMYK"),
    "PNG": ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"),
    "GIF": ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"),
    "WEBP": ("RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16"),
}
"""How the pixels of each may be written."""


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_pictures_of_every_kind_and_mode(kind: str, mode: str, path: Path) -> None:
    out = io.BytesIO()
    Image.new(mode, (700, 500)).save(out, kind)
    found = look(out.getvalue(), path)
    assert (found.picture.media_type, found.picture.width, found.picture.height) == (KINDS[kind], 700, 500)
    assert found.picture.size == len(out.getvalue())
    assert shown(found.thumbnail).size == (256, 183)
    assert examine(path, max_pixels=MOST) == found.picture
    assert thumbnail(path) == found.thumbnail


def test_the_first_bytes_decide() -> None:
    assert [sniff(encoded(kind)[:16]) for kind in KINDS] == list(KINDS.values())
    assert sniff(b"GIF87a") == "image/gif"
    assert {name for name, content in OTHERS.items() if sniff(content[:16])} == set()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_picture(name: str, path: Path) -> None:
    assert refusal(OTHERS[name], path) == "image_not_supported"


@pytest.mark.parametrize("name", PNG_SUITE)
def test_the_corrupted_files_of_png_suite(name: str, path: Path) -> None:
    if name.startswith("xcsn0g01"):
        assert look(PNG_SUITE[name], path).picture.width == 8
    else:
        expected = "image_broken" if PNG_SUITE[name].startswith(SIGNATURE) else "image_not_supported"
        assert refusal(PNG_SUITE[name], path) == expected


@pytest.mark.parametrize(("name", "content"), list(broken()), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_broken(name: str, content: bytes, path: Path) -> None:
    assert refusal(content, path) == "image_broken"


@pytest.mark.parametrize(("name", "content"), list(bombs()), ids=lambda value: value if isinstance(value, str) else "")
def test_bombs_are_counted_before_they_are_decoded(name: str, content: bytes, path: Path) -> None:
    began = time.monotonic()
    assert refusal(content, path) == "image_too_many_pixels"
    assert time.monotonic() - began < 5
    assert measured(path, sniff(content[:16]) or "") < 60 << 20


_WATCHED = """
import atexit, runpy, sys
atexit.register(lambda: sys.stderr.write(open("/proc/self/status").read()))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def measured(path: Path, media_type: str) -> int:
    """Run the decoder on a file; return how much memory it took at most, in bytes."""
    python, *isolated, program, packages = child._program()
    with path.open("rb") as file:
        ended = subprocess.run(
            [python, *isolated, "-c", _WATCHED, program, packages, media_type, str(MOST)],
            stdin=file,
            capture_output=True,
            env=child._environment(),
            check=True,
        )
    found = re.search(rb"VmHWM:\s+(\d+) kB", ended.stderr)
    assert found
    return int(found[1]) * 1024


def test_pixels_are_bounded_by_what_is_asked_for(path: Path) -> None:
    content = encoded("PNG", size=(100, 100))
    assert look(content, path, 10_000).picture.width == 100
    assert refusal(content, path, 9_999) == "image_too_many_pixels"


def test_bytes_are_bounded(path: Path) -> None:
    path.write_bytes(GOOD)
    with path.open("rb") as file, pytest.raises(NotAPicture) as caught:
        prepare(file, max_pixels=MOST, max_bytes=len(GOOD) - 1)
    assert caught.value.code == "image_too_large"


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_an_animation_only_the_first_frame_is_decoded(kind: str, path: Path) -> None:
    """The second one is damaged, and nobody notices."""
    frames = [Image.effect_noise((90, 90), 80).convert("P" if kind == "GIF" else "RGB") for _ in range(2)]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    content = bytearray(out.getvalue())
    content[-600:-20] = b"\xff" * 580
    assert look(bytes(content), path).picture.width == 90


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_the_largest_that_is_allowed_fits_into_its_memory(kind: str, path: Path) -> None:
    if kind == "WEBP":
        path.write_bytes(flat_webp(10_000, 5_000))
    else:
        Image.new("RGBA", (10_000, 5_000)).save(path, kind, compress_level=1)
    assert examine(path, max_pixels=MOST).width == 10_000
    assert measured(path, KINDS[kind]) < decode.BASE_BYTES + decode.BYTES_PER_PIXEL * MOST


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_neither_crashes_nor_hangs(kind: str, path: Path, tmp_path: Path) -> None:
    """Each file is a picture or is not; the decoder says which, within its memory, and ends well."""
    chance = random.Random(kind)
    whole = encoded(kind, size=(90, 70))

    def damaged(number: int) -> str:
        content = bytearray(whole)
        for _ in range(chance.choice((1, 3, 10, 40))):
            at = chance.randrange(len(content))
            change = chance.randrange(4)
            if change == 0:
                content[at] = chance.choice((0, 0x7F, 0x80, 0xFF))
            elif change == 1:
                content[at] ^= 1 << chance.randrange(8)
            elif change == 2:
                del content[at : at + chance.randrange(1, 9)]
            else:
                content[at:at] = chance.randbytes(chance.randrange(1, 9))
        content[:12] = whole[:12]
        try:
            return look(bytes(content), tmp_path / str(number)).picture.media_type
        except NotAPicture as error:
            return error.code

    began = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(damaged, range(25)))
    assert set(outcomes) <= {KINDS[kind], "image_broken", "image_too_many_pixels"}, outcomes
    assert "image_broken" in outcomes
    assert time.monotonic() - began < 60


def test_metadata_is_bounded_and_does_not_come_along(path: Path) -> None:
    profile = b"icc" + random.Random(1).randbytes(2_000_000)
    texts = b"".join(ztxt(b"x" * 1_000_000) for _ in range(4))
    found = look(SIGNATURE + header() + chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)) + texts + PIXELS + END, path)
    assert len(found.thumbnail) < 1000
    assert not {"icc_profile", "exif", "xmp"} & set(shown(found.thumbnail).info)
    many = b"".join(ztxt(b"x" * 3_900_000) for _ in range(40))
    assert refusal(SIGNATURE + header() + many + PIXELS + END, path) == "image_broken"
    assert measured(path, "image/png") < 120 << 20
    huge = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(200_000_000)))
    assert refusal(SIGNATURE + header() + huge + PIXELS + END, path) == "image_broken"
    assert measured(path, "image/png") < 120 << 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_thumbnail_is_the_right_way_up(orientation: int, path: Path) -> None:
    image = Image.new("RGB", (80, 40), "white")
    image.paste("black", (0, 0, 20, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    found = look(out.getvalue(), path)
    small = shown(found.thumbnail).convert("L")
    assert (found.picture.width, found.picture.height) == (80, 40)
    assert small.size == ((80, 40) if orientation < 5 else (40, 80))
    dark = {1: (3, 20), 2: (76, 20), 3: (76, 20), 4: (3, 20), 5: (20, 3), 6: (20, 3), 7: (20, 76), 8: (20, 76)}
    assert small.getpixel(dark[orientation]) < 60  # type: ignore[operator]


def test_metadata_that_nobody_can_read_does_no_harm(path: Path) -> None:
    whole = encoded("JPEG")
    for nonsense in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*" + b"\xff" * 400):
        segment = struct.pack(">H", len(nonsense) + 2) + nonsense
        for marker in (b"\xff\xe1", b"\xff\xe2"):
            assert look(whole[:2] + marker + segment + whole[2:], path).picture.width == 60


def test_what_shows_through_stays_so(path: Path) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (300, 300), (255, 0, 0, 0)).save(out, "PNG")
    assert shown(look(out.getvalue(), path).thumbnail).convert("RGBA").getpixel((9, 9))[3] == 0  # type: ignore[index]


def test_grey_in_sixteen_bits_is_not_white(path: Path) -> None:
    out = io.BytesIO()
    Image.new("I;16", (50, 50), 0x4000).save(out, "PNG")
    assert 50 < shown(look(out.getvalue(), path).thumbnail).convert("L").getpixel((9, 9)) < 80  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_something_else_besides_is_judged_as_a_picture(kind: str, path: Path) -> None:
    whole = encoded(kind)
    for more in (b"PK\x05\x06" + bytes(18), b"<script>alert(1)</script>", b"%PDF-1.7"):
        found = look(whole + more, path)
        assert found.picture.media_type == KINDS[kind]
        assert more not in found.thumbnail


# -- the process -----------------------------------------------------------------------------------------------


def played_by(script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put another program in the decoder's place."""
    (tmp_path / "decode.py").write_text(script)
    monkeypatch.setattr(child, "_program", lambda: (sys.executable, "-I", "-S", str(tmp_path / "decode.py")))


CRASH = "import os, signal; os.kill(os.getpid(), signal.{signal})"


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGXCPU"])
def test_a_picture_that_kills_the_decoder_is_broken(
    signal: str, monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    no_core = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    played_by(no_core + CRASH.format(signal=signal), monkeypatch, tmp_path)
    assert refusal(GOOD, path) == "image_broken"


@pytest.mark.parametrize("script", [CRASH.format(signal="SIGKILL"), "import sys; sys.exit(1)", "raise RuntimeError"])
def test_what_is_no_fault_of_the_picture_is_trouble(
    script: str, monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    played_by(script, monkeypatch, tmp_path)
    with pytest.raises(DecoderTrouble):
        look(GOOD, path)


@pytest.mark.parametrize(
    "said", ["", "nonsense", "[]", "{}", '{"width": "x", "height": 1}', "\\xff\\xfe", "x" * 9_000_000]
)
def test_a_report_that_makes_no_sense_is_no_picture(
    said: str, monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    played_by(f"print({said!r})" if len(said) < 99 else "print('x' * 9_000_000)", monkeypatch, tmp_path)
    assert refusal(GOOD, path) == "image_broken"


def test_a_decoder_that_computes_for_ever_is_stopped(
    monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    script = Path(decode.__file__).read_text().replace("CPU_SECONDS: Final = 20", "CPU_SECONDS: Final = 1")
    played_by(
        script.replace("    try:\n        report", "    while True: pass\n    try:\n        report"),
        monkeypatch,
        tmp_path,
    )
    monkeypatch.setattr(
        child, "_program", lambda: (sys.executable, "-I", "-S", str(tmp_path / "decode.py"), *packages())
    )
    assert refusal(GOOD, path) == "image_broken"


def packages() -> Sequence[str]:
    return [str(Path(Image.__file__).parents[1])]


def test_a_decoder_that_hangs_is_trouble_and_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    played_by(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)",
        monkeypatch,
        tmp_path,
    )
    path.write_bytes(GOOD)
    with path.open("rb") as file, pytest.raises(DecoderTrouble):
        child.decode(file, "image/png", max_pixels=MOST, wall=1.0)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_two_decode_at_a_time(monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path) -> None:
    script = f"""
import os, pathlib, time
here = pathlib.Path({str(tmp_path)!r}) / f"running-{{os.getpid()}}"
here.touch()
time.sleep(0.2)
print('{{"width": %d, "height": 1}}' % len(list(here.parent.glob("running-*"))))
here.unlink()
"""
    played_by(script, monkeypatch, tmp_path)
    with ThreadPoolExecutor(6) as threads:
        seen = list(threads.map(lambda number: look(GOOD, tmp_path / f"{number}.png").picture.width, range(6)))
    assert max(seen) == 2


def test_the_decoder_knows_nothing_of_us(monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("BACKROOM_SECRET", "hush")
    played_by("import os, sys; print('{\"code\": \"%s\", \"detail\": \"\"}' % len([k for k in os.environ if k not in "
              "('MALLOC_ARENA_MAX', 'LC_CTYPE', 'LD_LIBRARY_PATH')]))", monkeypatch, tmp_path)  # fmt: skip
    assert refusal(GOOD, path) == "0"


def test_a_worker_does_not_import_the_decoder() -> None:
    program = "import sys, services.imports.jobs.images; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


# -- words -----------------------------------------------------------------------------------------------------


def test_every_reason_has_its_sentence() -> None:
    raised: set[str] = set()
    for source in (*Path(pictures.__path__[0]).glob("*.py"), ROOT / "services/imports/jobs/images.py"):
        raised |= set(re.findall(r'"(image_\w+)"', source.read_text())) - {"image_id", "image_gone", "image_settled"}
    for source in (ROOT / "shared/outbound").glob("*.py"):
        raised |= set(
            re.findall(r'"(url_\w+|redirect_refused|encoding_refused|too_many_redirects)"', source.read_text())
        )
    raised |= {"provider_unavailable", "provider_rate_limited", "trouble", "cancelled"}
    assert raised == set(TEXTS)
    for sentence in TEXTS.values():
        assert re.fullmatch(r"[A-Z][^_{}]*\.", sentence)


@pytest.mark.parametrize("tenant", ["acme", "a/../b", "ä", "x" * 200, ".", ""])
def test_keys_are_keys_whatever_the_tenant(tenant: str) -> None:
    assert check_key(original_key(tenant, "0" * 64))[2] == "images"
    assert check_key(thumbnail_key(tenant, "0" * 64))[2] == "thumbnails"
