"""Kinds of values in option files, with the message when a value is none, and how messages show a value."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_SEED = 2**31 - 1  # NumPy takes 32 bits, and loaders add the numbers of their workers
MAX_WORKERS = 1000
MAX_LEVEL = 100_000  # in float32, noise of more swallows the gray levels of the image


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, at most 60 characters, as YAML would spell it."""
    spelled = {None: 'null', True: 'true', False: 'false'}
    text = spelled[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def integer(value: Any) -> int:
    """An int, or a float that is one (``5e3``, which YAML 1.2 reads as a float)."""
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise wrong('an integer is needed', value)
    if abs(value) >= 2**63:
        raise wrong('an integer of at most 18 digits is needed', value)
    return int(value)


def number(value: Any) -> int | float:
    """A finite int or float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong('a number is needed', value)
    return value


def wrong(rule: str, value: Any, key: str | None = None) -> PydanticCustomError:
    """The rule and the value received; a number in quotes gets its way out.

    Args:
        key: which key of a section is meant, where a rule joins several.
    """
    message = f'{rule}; got {shown(value)}'
    if isinstance(value, str) and reads_as_number(value) and ('integer' in rule or 'number' in rule):
        message += ' (remove the quotes)'
    return PydanticCustomError('wrong', '{message}', {'message': message, 'key': key})


def reads_as_number(text: str) -> bool:
    """Whether a text is a number in quotes."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong('a text is needed (put it in quotes)', value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong('true or false is needed', value)
    return value


def _folder_name(value: str) -> str:
    plain = value.strip() == value and value.isprintable() and not set('/\\') & set(value)
    if not plain or value in ('', '.', '..') or len(value.encode(errors='replace')) > 200:
        raise wrong("a plain folder name is needed, without '/' and '..'", value)
    return value


def _at_most(high: int, value: int) -> int:
    if value > high:
        raise wrong(f'at most {high} is needed', value)
    return value


def _at_least(low: float, value: int | float) -> int | float:
    if value < low:
        raise wrong(f'at least {low} is needed', value)
    return value


def _qualities(value: Any) -> Any:
    """A quality factor of JPEG, or a list of them."""
    factors = value if isinstance(value, list) else [value]
    if not all(isinstance(q, int) and not isinstance(q, bool) and 1 <= q <= 100 for q in factors):
        raise wrong('quality factors are integers from 1 to 100', value)
    return value


def _gpus(value: Any) -> int | str:
    if value == 'auto':
        return 'auto'
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong("an integer of at least 0, or 'auto', is needed", value)
    return value


def _levels(value: Any) -> Any:
    """A noise level, or a list of them, in 8-bit units."""
    levels = value if isinstance(value, list) else [value]
    if not levels or any(isinstance(v, bool) or not isinstance(v, int | float) for v in levels):
        raise wrong('a number or a list of numbers is needed', value)
    if any(not 0 <= v <= MAX_LEVEL for v in levels):
        raise wrong(f'noise levels are from 0 to {MAX_LEVEL}, in units of 8-bit images', value)
    return value


def _names(value: Any) -> Any:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise wrong('a name or a list of names is needed', value)
    return value


Int = Annotated[int, BeforeValidator(integer)]
Count = Annotated[
    int,
    BeforeValidator(integer),
    AfterValidator(lambda value: _at_least(0, value)),
    WithJsonSchema({'type': 'integer', 'minimum': 0}),
]
Positive = Annotated[
    int,
    BeforeValidator(integer),
    AfterValidator(lambda value: _at_least(1, value)),
    WithJsonSchema({'type': 'integer', 'minimum': 1}),
]
Seed = Annotated[
    Count,
    AfterValidator(lambda value: _at_most(MAX_SEED, value)),
    WithJsonSchema({'type': 'integer', 'minimum': 0, 'maximum': MAX_SEED}),
]
Workers = Annotated[
    Count,
    AfterValidator(lambda value: _at_most(MAX_WORKERS, value)),
    WithJsonSchema({'type': 'integer', 'minimum': 0, 'maximum': MAX_WORKERS}),
]
Qualities = Annotated[int | list[int], BeforeValidator(_qualities)]
Number = Annotated[float, BeforeValidator(number)]
Text = Annotated[str, BeforeValidator(_text)]
FolderName = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_folder_name),
    WithJsonSchema({'type': 'string', 'pattern': r'^[^/\\]+$', 'not': {'enum': ['.', '..']}, 'maxLength': 200}),
]
Flag = Annotated[bool, BeforeValidator(_flag)]
Gpus = Annotated[
    int | Literal['auto'],
    BeforeValidator(_gpus),
    WithJsonSchema({'anyOf': [{'type': 'integer', 'minimum': 0}, {'const': 'auto'}]}),
]
Levels = Annotated[
    int | float | list[int | float],
    BeforeValidator(_levels),
    WithJsonSchema(
        {
            'anyOf': [
                {'type': 'number', 'minimum': 0, 'maximum': MAX_LEVEL},
                {'type': 'array', 'items': {'type': 'number', 'minimum': 0, 'maximum': MAX_LEVEL}, 'minItems': 1},
            ]
        }
    ),
]
Names = Annotated[str | list[str], BeforeValidator(_names)]
Section = dict[str, Any]
