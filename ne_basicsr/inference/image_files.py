"""Read and write image files with bit depth, alpha, EXIF and ICC profile.

Pillow handles files with 8 bits; it would reduce 16-bit colour to 8 bits. So OpenCV handles PNG with 16 bits, and
tifffile handles TIFF with more than 8 bits, with OpenCV for compressions that tifffile leaves to other libraries.
Pixels keep the orientation of the file: the EXIF orientation is kept, not applied, except in BMP, which has none.
"""

import io
import struct
import zlib
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageMode, ImageOps, UnidentifiedImageError

from ne_basicsr.data import stacks
from ne_basicsr.utils.errors import InputError, first_line

FORMATS = {
    '.png': 'png', '.jpg': 'jpeg', '.jpeg': 'jpeg', '.tif': 'tiff', '.tiff': 'tiff', '.webp': 'webp', '.bmp': 'bmp',
}  # fmt: skip
SUFFIX = {'png': '.png', 'jpeg': '.jpg', 'tiff': '.tif', 'webp': '.webp', 'bmp': '.bmp'}
DEPTHS = {'png': 'uint8 uint16', 'jpeg': 'uint8', 'webp': 'uint8', 'bmp': 'uint8'}  # TIFF takes all
QUALITY = 95  # of JPEG, without subsampling of colours, and of lossy WebP
MOST_PIXELS = 2**30  # OpenCV's limit; Pillow's own lies at 179 megapixels
STRIP_SIDE = 1024

Pixels = NDArray[Any]

# tags of a TIFF that describe the picture, not the layout of the file
_KEPT_TAGS = (
    ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Orientation,
    ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit, ExifTags.Base.Software,
    ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright,
)  # fmt: skip
_SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = (258, 259, 262, 274)


class Picture(NamedTuple):
    """The content of an image file."""

    pixels: Pixels  # (H, W, 1) gray or (H, W, 3) RGB; uint8, uint16, float16, float32 or float64
    alpha: Pixels | None = None  # (H, W, 1) of the same type, or None
    exif: bytes = b''  # EXIF as bytes, including the orientation; empty if there is none
    icc: bytes = b''  # colour profile; empty if there is none
    lossless: bool = False  # whether a WebP file is lossless
    premultiplied: bool = False  # whether the pixels are multiplied by alpha; only in TIFF


class SeveralPages(InputError):
    """A TIFF is a stack, whose pages ``Stack`` reads."""


def pixels_in(path: Path) -> int:
    """The number of pixels of all pages of an image file, from headers only; 0 if it cannot be read."""
    try:
        if FORMATS.get(path.suffix.lower()) == 'tiff':
            with stacks.Stack(path) as stack:
                return stack.count() * stack.page(0).imagelength * stack.page(0).imagewidth
        with Image.open(path) as image:
            return image.height * image.width
    except Exception:  # which is reported later
        return 0


def is_colour(path: Path) -> bool:
    """Whether an image file has colour, from its header only; no if it cannot be read."""
    try:
        if FORMATS.get(path.suffix.lower()) == 'tiff':
            with stacks.Stack(path) as stack:
                return int(stack.page(0).samplesperpixel) >= 3
        with Image.open(path) as image:
            return ImageMode.getmode(image.mode).basemode != 'L'
    except Exception:  # which is reported later
        return False


def read(path: Path) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP or BMP file; the content decides the format.

    An ``InputError`` for files that are not a complete image, have several pages, or hold values other than 8- or
    16-bit integers and finite floating-point numbers.
    """
    try:
        if (pages := stacks.page_count(path)) > 1:
            raise SeveralPages(f'{path}: has {pages} pages; save the one you want as a separate file')
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from error
    try:
        return decode(data)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    except UnidentifiedImageError as error:
        raise InputError(f'{path}: not a readable image (unknown format)') from error
    except Exception as error:  # decoders raise many kinds of errors for broken files
        raise InputError(f'{path}: not a readable image ({first_line(error)})') from error


def decode(data: bytes) -> Picture:
    """Like ``read``, from the content of a file; errors of decoders are not caught."""
    if not data:
        raise InputError('the file is empty')
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        if data[:4] in stacks.MAGIC:
            return _decode_deep_tiff(data, b'', b'')  # Pillow does not support floating-point colour
        raise
    with image:
        frames = getattr(image, 'n_frames', 1)
        if frames > 1 and image.format != 'MPO':  # phones store previews after the photograph
            raise InputError(f'has {frames} pages or frames; save the one you want as a separate file')
        icc = image.info.get('icc_profile') or b''
        if image.format == 'TIFF':
            tags: Any = getattr(image, 'tag_v2', {})
            bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
            plain_layout = tags.get(_PHOTOMETRIC) in stacks.PLAIN and tags.get(_COMPRESSION, 1) in stacks.EASY
            if bits > 8 or (bits == 8 and plain_layout):
                return _decode_deep_tiff(data, _exif_of_tiff(image), icc)
        if image.format == 'PNG' and data[24] == 16:
            image.load()  # verifies checksums, which OpenCV does not
            return _decode_deep_png(data, image.info.get('transparency'), image.info.get('exif') or b'', icc)
        if image.format not in ('PNG', 'JPEG', 'MPO', 'TIFF', 'WEBP', 'BMP'):
            raise InputError(f'only PNG, JPEG, TIFF, WebP and BMP are supported; this is {image.format}')
        exif = b''
        if image.format == 'TIFF':
            exif = _exif_of_tiff(image)
            image.getexif().pop(_ORIENTATION, None)  # else Pillow would rotate the pixels
        image.load()
        exif = exif or image.info.get('exif') or b''  # only now, since PNG can store it after the pixels
        plain = _without_palette(image)
        if plain.mode not in ('L', 'LA', 'RGB', 'RGBA'):
            raise InputError(f'only gray and RGB images are supported; this is {plain.mode}: convert it first')
        return split(np.array(plain), exif, icc, lossless=image.format == 'WEBP' and b'VP8L' in data)


def _without_palette(image: Image.Image) -> Image.Image:
    if 'transparency' in image.info:  # a transparent colour or palette entry, whose value would change in denoising
        return image.convert('LA' if image.mode in ('1', 'L') else 'RGBA')
    return image.convert({'1': 'L', 'P': 'RGB', 'PA': 'RGBA'}.get(image.mode, image.mode))


def _decode_deep_png(data: bytes, transparent: Any, exif: bytes, icc: bytes) -> Picture:
    """``transparent``: the pixel value that stands for transparency, or None."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError('not a readable 16-bit PNG')
    picture = split(stacks.rgb(pixels), exif, icc)
    if data[25] in (0, 4):  # OpenCV converts gray with alpha to colour, and handles transparent values of colours only
        picture = picture._replace(pixels=picture.pixels[..., :1])
        if picture.alpha is None and transparent is not None:
            return picture._replace(alpha=np.where(picture.pixels == transparent, 0, 65535).astype(np.uint16))
    return picture


def _decode_deep_tiff(data: bytes, exif: bytes, icc: bytes) -> Picture:
    from tifffile import EXTRASAMPLE

    with stacks.Stack(io.BytesIO(data)) as stack:
        page, pixels = stack.page(0), stack.read(0)
        tags = {tag.code: tag.value for tag in page.tags}
        icc = icc or tags.get(34675) or b''
        exif = exif or _exif_bytes({int(tag): _plain_value(tags[tag]) for tag in _KEPT_TAGS if tag in tags})
    picture = split(pixels, exif, icc)
    is_associated = EXTRASAMPLE.ASSOCALPHA in page.extrasamples
    return picture._replace(premultiplied=picture.alpha is not None and is_associated)


def split(pixels: Pixels, exif: bytes = b'', icc: bytes = b'', lossless: bool = False) -> Picture:
    """The picture of pixels (H, W) or (H, W, 1 to 4), with alpha as second or fourth channel."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    channels = pixels.shape[2]
    if channels > 4:
        raise InputError(f'images must have 1 to 4 channels, the last of 2 or 4 being alpha; got {channels}')
    alpha = pixels[..., -1:] if channels in (2, 4) else None
    return Picture(pixels[..., :-1] if alpha is not None else pixels, alpha, exif, icc, lossless)


def _exif_of_tiff(image: Image.Image) -> bytes:
    exif = image.getexif()
    kept: dict[int, Any] = {int(tag): exif[tag] for tag in _KEPT_TAGS if tag in exif}
    for directory in _SUB_DIRECTORIES:
        if content := dict(exif.get_ifd(directory)):
            kept[int(directory)] = content
    return _exif_bytes(kept)


def _plain_value(value: Any) -> Any:
    """Convert a TIFF value for EXIF; tifffile returns fractions as pairs and choices as enumerations."""
    if isinstance(value, tuple):
        return value[0] / max(1, value[1])
    return int(value) if isinstance(value, int) else value


def _exif_bytes(tags: dict[int, Any]) -> bytes:
    if not tags:
        return b''
    exif = Image.Exif()
    exif.update(tags)
    return exif.tobytes()


# -- writing -----------------------------------------------------------------------------------------------------------


def target_dtype(dtype: np.dtype[Any], file_format: str) -> np.dtype[Any]:
    """The type in which a format stores pixels of ``dtype``: their own, or the deepest that it supports."""
    known = DEPTHS.get(file_format, dtype.name).split()
    return np.dtype(dtype.name if dtype.name in known else known[-1])


def check_format(picture: Picture, file_format: str) -> None:
    """Raise InputError for alpha in JPEG or BMP, and for premultiplied alpha in formats other than TIFF."""
    if picture.premultiplied and file_format != 'tiff':
        raise InputError(f'has premultiplied alpha, which {file_format.upper()} cannot hold; use --format tiff')
    if picture.alpha is not None and file_format in ('jpeg', 'bmp'):
        raise InputError(f'has transparency, which {file_format.upper()} cannot hold; use --format png')


def with_alpha(picture: Picture) -> Pixels:
    """Pixels and alpha as one array, (H, W, 1 to 4)."""
    return picture.pixels if picture.alpha is None else np.concatenate([picture.pixels, picture.alpha], axis=2)


def encode(picture: Picture, file_format: str) -> bytes:
    """Encode a picture as a file; its type must be one that the format supports.

    JPEG has quality 95 and no subsampling. WebP is lossless if the input was, otherwise it has quality 95. TIFF is
    compressed without loss (deflate). BMP is written upright and without profile. Errors are those of ``check_format``.
    """
    check_format(picture, file_format)
    _, alpha, exif, icc, lossless, premultiplied = picture
    pixels = with_alpha(picture)
    if file_format == 'tiff':
        kind = None if alpha is None else 'assocalpha' if premultiplied else 'unassalpha'
        return _encode_tiff(pixels, kind, exif, icc)
    if pixels.dtype == np.uint16:
        return _encode_deep_png(pixels, exif, icc)
    assert pixels.dtype == np.uint8, 'target_dtype was asked'
    options: dict[str, Any] = {
        'png': {},
        'jpeg': {'quality': QUALITY, 'subsampling': 0},
        'webp': {'exact': True, **({'lossless': True} if lossless else {'quality': QUALITY})},
        'bmp': {},
    }[file_format]
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if file_format == 'bmp':
        image = _upright(image, exif)
    else:
        options |= {'exif': exif} if exif else {}
        options |= {'icc_profile': icc} if icc else {}
    if file_format == 'webp' and image.mode in ('L', 'LA'):  # not supported by WebP
        image = image.convert('RGB' if image.mode == 'L' else 'RGBA')
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _encode_tiff(pixels: Pixels, kind_of_alpha: str | None, exif: bytes, icc: bytes) -> bytes:
    known = _tags(exif)
    strings = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Artist, ExifTags.Base.Copyright)
    further: list[tuple[int, int, int, Any, bool]] = [
        (int(tag), 2, 0, str(known[tag]).encode('ascii', 'replace').decode(), True) for tag in strings if tag in known
    ]
    further += [(_ORIENTATION, 3, 1, known[_ORIENTATION], True)] if known.get(_ORIENTATION) in range(1, 9) else []
    settings: dict[str, Any] = {}
    resolution = [known.get(tag) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)]
    # Pillow before 13 raises ZeroDivisionError for x / 0, which is not a number
    if all(isinstance(v, Real) and getattr(v, 'denominator', 1) and 0 < float(v) < 2**32 for v in resolution):
        unit = known.get(ExifTags.Base.ResolutionUnit)
        settings['resolution'] = tuple(map(float, resolution))  # type: ignore[arg-type]
        settings['resolutionunit'] = unit if unit in (1, 2, 3) else 2
    for name, tag in (('description', ExifTags.Base.ImageDescription), ('software', ExifTags.Base.Software)):
        if tag in known:
            settings[name] = str(known[tag]).encode('ascii', 'replace').decode()
    import tifffile

    buffer = io.BytesIO()
    is_gray = pixels.shape[2] < 3
    tifffile.imwrite(
        buffer,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric='minisblack' if is_gray else 'rgb',
        planarconfig=None if pixels.shape[2] == 1 else 'contig',
        extrasamples=[kind_of_alpha] if kind_of_alpha else None,
        compression='zlib',
        predictor=pixels.dtype.kind == 'u',  # for floating point, this needs another library
        rowsperstrip=max(1, 2**20 // pixels[:1].nbytes),
        metadata=None,
        iccprofile=icc or None,
        extratags=further,
        **settings,
    )
    return buffer.getvalue()


def _encode_deep_png(pixels: Pixels, exif: bytes, icc: bytes) -> bytes:
    if pixels.shape[2] == 2:  # OpenCV cannot write gray with alpha
        height, width = pixels.shape[:2]
        lines = pixels.astype('>u2').reshape(height, -1).view(np.uint8)
        lines = np.pad(lines, ((0, 0), (1, 0)))  # each line begins with its filter type: none
        header = _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 16, 4, 0, 0, 0))
        data = b'\x89PNG\r\n\x1a\n' + header + _chunk(b'IDAT', zlib.compress(lines.tobytes())) + _chunk(b'IEND', b'')
    else:
        good, encoded = cv2.imencode('.png', stacks.rgb(pixels))
        assert good, 'OpenCV writes all other 16-bit PNG'
        data = encoded.tobytes()
    head = data[:33]  # signature and IHDR
    profile = _chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(icc)) if icc else b''
    about = _chunk(b'eXIf', exif.removeprefix(b'Exif\0\0')) if exif else b''
    return head + profile + about + data[33:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def encode_strip(before: Picture, after: Picture) -> bytes:
    """Both pictures side by side, upright, as an 8-bit PNG; only the centres of large pictures."""
    height, width = before.pixels.shape[:2]
    top, left = (max(0, (side - STRIP_SIDE) // 2) for side in (height, width))
    low, high = 0.0, 1.0
    sides: list[Pixels] = []
    for picture in (before, after):
        part = picture.pixels[top : top + STRIP_SIDE, left : left + STRIP_SIDE]
        if part.dtype.kind == 'f':
            if not sides:  # floating point has no fixed black and white: use the same limits for both
                low, high = min(0.0, float(part.min())), max(1.0, float(part.max()))
            shown = (part.astype(np.float64) - low) / (high - low)  # float32 cannot represent all of float64
        else:
            shown = part.astype(np.float32) / np.iinfo(part.dtype).max
        image = (shown.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        sides.append(np.array(_upright(Image.fromarray(image[..., 0] if image.shape[2] == 1 else image), before.exif)))
    gap = np.full_like(sides[0][:, :4], 255)
    buffer = io.BytesIO()
    strip = Image.fromarray(np.concatenate([sides[0], gap, sides[1]], axis=1))
    strip.save(buffer, 'png', **({'icc_profile': before.icc} if before.icc else {}))
    return buffer.getvalue()


def _upright(image: Image.Image, exif: bytes) -> Image.Image:
    """The image, rotated according to EXIF."""
    image.getexif()[_ORIENTATION] = _tags(exif).get(_ORIENTATION, 1)
    return ImageOps.exif_transpose(image)


def _tags(exif: bytes) -> dict[int, Any]:
    """The EXIF tags, as far as they can be read; broken EXIF is not an error."""
    content = Image.Exif()
    tags: dict[int, Any] = {}
    with suppress(Exception):  # Pillow raises many kinds of errors
        content.load(exif)
        tags.update(content)
    return tags
