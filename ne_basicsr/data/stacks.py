"""Stacks: TIFF files with several pages, such as those of ImageJ and OME, read and replaced page by page.

Pages are replaced in a copy of the file. So whatever describes them (axes, labels, OME-XML, resolution, profile) stays
as it is. Only compressed pages get other lengths, and other compressions than deflate become deflate.
"""

import io
import logging
import zlib
from contextlib import AbstractContextManager
from copy import copy
from itertools import product
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.utils.errors import InputError, first_line

MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # first bytes of TIFF and BigTIFF
TYPES = ('uint8', 'uint16', 'float16', 'float32', 'float64')
PLAIN = _WHITE_IS_0, _BLACK_IS_0, _RGB = (0, 1, 2)  # photometric interpretations
EASY = _UNCOMPRESSED, _DEFLATE, _ = (1, 8, 32946)  # compressions that tifffile knows alone; the last two are one
_COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _PREDICTOR, _SMALLER_COPIES = (259, 262, 274, 317, 330)  # tags

Pixels = NDArray[Any]


class Stack(AbstractContextManager['Stack']):
    """A TIFF, from a path or an open file, whose pages, numbered from 0, are read when they are asked for."""

    def __init__(self, source: Path | IO[bytes]) -> None:
        import tifffile  # 0.1 s, and few images are TIFF

        logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # it reports each damage several times; we, once
        self._source = source
        opened: Any = {} if isinstance(source, Path) else {'name': 'stack', 'offset': 0}
        # not as OME, whose metadata may name other files, which tifffile would open
        self._tiff = tifffile.TiffFile(source, is_ome=False, **opened)
        if not self._tiff.pages:
            raise InputError('holds no pages, or is cut')

    def __exit__(self, *error: object) -> None:
        self._tiff.close()

    def count(self) -> int:
        """The number of pages; an ``InputError`` for a file that is cut, and for pages that differ in size or type."""
        tiff, file, number, first = self._tiff.tiff, self._tiff.filehandle, len(self._tiff.pages), self.page(0)
        file.seek(self._tiff.pages.next_page_offset or 0)
        if file.read(tiff.offsetsize) != bytes(tiff.offsetsize):
            raise InputError(f'is cut or damaged after page {number}')
        if number == 1 and first.is_final and first.size:  # ImageJ and others describe one page of a large stack
            listed = (self._tiff.imagej_metadata or {}).get('images', 1)
            number = max(listed, self._tiff.series[0].size // first.size)
        for index, page in enumerate(map(self.page, range(number if number > 1 else 0)), 1):
            kind, other = (f'{"x".join(map(str, each.shape))} {each.dtype}' for each in (first, page))
            if kind != other:
                raise InputError(f'page {index} is {other}, the first {kind}; save it as a separate file')
            if _SMALLER_COPIES in page.tags:
                raise InputError('has pages with smaller copies (a pyramid); save it without them')
            file.seek(page.offset)
            tags = int.from_bytes(file.read(tiff.tagnosize), 'big' if tiff.byteorder == '>' else 'little')
            sizes = [page.nbytes] if page.is_final else page.databytecounts
            places = zip(page.dataoffsets, sizes, strict=False)
            end = max((place + size if place else file.size + 1 for place, size in places), default=file.size + 1)
            if len(page.tags) < tags or end > file.size:
                raise InputError(f'is cut or damaged in page {index} of {number}')
        return number

    def page(self, index: int) -> Any:
        """The description of a page, tifffile's."""
        if index == 0 or self._tiff.pages.is_multipage:
            return self._tiff.pages[index]
        page: Any = copy(self._tiff.pages[0])
        page.dataoffsets = [offset + index * page.nbytes for offset in page.dataoffsets]
        return page

    def read(self, index: int) -> Pixels:
        """A page of gray or RGB in 8 or 16 bits or finite floating point as (H, W, C), C 1 to 4, with black at 0."""
        page = self.page(index)
        if page.photometric not in PLAIN or set(page.axes) - set('YXS'):
            raise InputError(f'only gray and RGB images are supported; this is {page.photometric.name}, {page.axes}')
        try:
            pixels = page.asarray()
            pixels = np.moveaxis(pixels, 0, -1) if page.axes == 'SYX' else pixels
        except Exception as error:  # tifffile raises many kinds of errors; ImportError: ZSTD before Python 3.14
            if not isinstance(error, ImportError) and 'imagecodecs' not in str(error):
                raise InputError(f'cannot be read, is the file damaged? ({first_line(error)})') from error
            given: Any = self._source
            data = np.memmap(given, mode='r') if isinstance(given, Path) else np.frombuffer(given.getvalue(), 'u1')
            found = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(index, index + 1))[1]
            # OpenCV rotates some images that have an orientation
            if not found or page.tags.valueof(_ORIENTATION, default=1) != 1:
                way_out = "save it uncompressed, or pip install 'ne-basicsr[imagecodecs]'"
                raise InputError(f'this TIFF is compressed by {page.compression.name}; {way_out}') from None
            pixels = rgb(found[0])
        if pixels.dtype.name not in TYPES:
            raise InputError(f'only 8 bits, 16 bits and floating point are supported; this is {pixels.dtype.name}')
        if pixels.size == 0 or (pixels.dtype.kind == 'f' and not all(np.isfinite(rows).all() for rows in pixels)):
            raise InputError('has values that are not finite' if pixels.size else 'the image has no pixels')
        pixels = _from_black(pixels.astype(pixels.dtype.newbyteorder('='), copy=False), page)
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def write(self, index: int, pixels: Pixels) -> None:
        """Replace a page by pixels (H, W, C) of its type; an ``InputError`` for packed bits."""
        page, file = self.page(index), self._tiff.filehandle
        if page.bitspersample != 8 * pixels.itemsize or page.fillorder != 1:
            raise InputError(f'packs {page.bitspersample} bits per sample; save it with 8 or 16 bits')
        pixels, order = _from_black(pixels, page), pixels.dtype.newbyteorder(self._tiff.byteorder)
        planes = np.moveaxis(pixels, -1, 0)[..., None] if page.axes == 'SYX' else pixels[None]
        if page.is_final:  # uncompressed, in one piece
            file.seek(page.dataoffsets[0])
            file.write(planes.astype(order).tobytes())
            return
        has_differences = page.predictor == 2 and pixels.dtype.kind == 'u'
        length, width = page.chunks[:2]
        corners = product(planes, range(0, pixels.shape[0], length), range(0, pixels.shape[1], width))
        offsets, sizes = list(page.dataoffsets), list(page.databytecounts)
        for number, (plane, top, left) in enumerate(corners):
            part = plane[top : top + length, left : left + width]
            if page.is_tiled:
                part = np.pad(part, ((0, length - part.shape[0]), (0, width - part.shape[1]), (0, 0)), 'edge')
            if has_differences:
                part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
            data = part.astype(order).tobytes()
            data = data if page.compression == _UNCOMPRESSED else zlib.compress(data)
            if len(data) > sizes[number]:  # rarely: less noise takes less space
                offsets[number] = file.seek(0, io.SEEK_END)
            sizes[number] = len(data)
            file.seek(offsets[number])
            file.write(data)
        changes = {324: offsets, 325: sizes} if page.is_tiled else {273: offsets, 279: sizes}
        changes |= {} if page.compression in EASY else {_COMPRESSION: [_DEFLATE]}
        changes |= {} if page.predictor == 1 or has_differences else {_PREDICTOR: [1]}
        for code, values in changes.items():
            tag = page.tags[code]
            tag.overwrite(values, dtype=4 if tag.dtype == 3 and max(values) > 65535 else None)  # 32 bits, no longer 16


def page_count(source: Path | IO[bytes], name: str = '') -> int:
    """The number of pages of a TIFF; 1 for other files. Errors are those of ``Stack.count``, with the name."""
    if isinstance(source, Path):
        with source.open('rb') as file:
            return page_count(file, str(source))
    if source.read(4) not in MAGIC:
        return 1
    try:
        with Stack(source) as stack:
            return stack.count()
    except Exception as error:  # tifffile raises many kinds of errors for broken files
        line = error if isinstance(error, InputError) else f'not a readable image ({first_line(error)})'
        raise InputError(f'{name}: {line}') from error


def rgb(pixels: Pixels) -> Pixels:
    """OpenCV's order of channels to RGB, or back."""
    return pixels if pixels.ndim == 2 or pixels.shape[2] < 3 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _from_black(pixels: Pixels, page: Any) -> Pixels:
    """Pixels of a page with black at 0, or back."""
    if page.tags.valueof(_PHOTOMETRIC, default=_BLACK_IS_0) != _WHITE_IS_0:
        return pixels
    return np.iinfo(pixels.dtype).max - pixels if pixels.dtype.kind == 'u' else -pixels
