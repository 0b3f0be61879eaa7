"""A value that an object works out when it is first asked for: `functools.cached_property` without its lock.

Before Python 3.12 that lock costs as much as finding a header. Two threads that ask at once may both work the
value out, so it has to be the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class once(Generic[Value]):  # noqa: N801 - a decorator, named as property is
    """Decorator for a method without arguments of a class without ``__slots__``."""

    def __init__(self, work: Callable[[Any], Value]) -> None:
        self._work = work
        self._name = work.__name__
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> once[Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Value | once[Value]:
        """Work it out and leave it in the instance, where Python looks first the next time."""
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._work(instance)
        return value
