"""The few calls of the DRM core that the suite needs (include/uapi/drm/drm.h)."""

from __future__ import annotations

import ctypes

from harness.suite.uapi import READ_WRITE, S32, S64, U32, U64, WRITE, request


class Version(ctypes.Structure):
    _fields_ = (
        ("version_major", S32),
        ("version_minor", S32),
        ("version_patchlevel", S32),
        ("name_len", ctypes.c_size_t),
        ("name", U64),
        ("date_len", ctypes.c_size_t),
        ("date", U64),
        ("desc_len", ctypes.c_size_t),
        ("desc", U64),
    )


class GemClose(ctypes.Structure):
    _fields_ = (("handle", U32), ("pad", U32))


class PrimeHandle(ctypes.Structure):
    _fields_ = (("handle", U32), ("flags", U32), ("fd", S32))


class SyncobjDestroy(ctypes.Structure):
    _fields_ = (("handle", U32), ("pad", U32))


class SyncobjHandle(ctypes.Structure):
    _fields_ = (("handle", U32), ("flags", U32), ("fd", S32), ("pad", U32), ("point", U64))


class SyncobjEventfd(ctypes.Structure):
    _fields_ = (("handle", U32), ("flags", U32), ("point", U64), ("fd", S32), ("pad", U32))


class SyncobjArray(ctypes.Structure):
    _fields_ = (("handles", U64), ("count_handles", U32), ("pad", U32))


class SyncobjTimelineWait(ctypes.Structure):
    _fields_ = (
        ("handles", U64),
        ("points", U64),
        ("timeout_nsec", S64),
        ("count_handles", U32),
        ("flags", U32),
        ("first_signaled", U32),
        ("pad", U32),
        ("deadline_nsec", U64),
    )


class SyncobjTimelineArray(ctypes.Structure):
    _fields_ = (("handles", U64), ("points", U64), ("count_handles", U32), ("flags", U32))


WAIT_ALL = 1 << 0
WAIT_FOR_SUBMIT = 1 << 1  # of SyncobjTimelineWait.flags: wait also for a point not yet submitted

VERSION = request(READ_WRITE, 0x00, Version)
GEM_CLOSE = request(WRITE, 0x09, GemClose)
PRIME_HANDLE_TO_FD = request(READ_WRITE, 0x2D, PrimeHandle)
PRIME_FD_TO_HANDLE = request(READ_WRITE, 0x2E, PrimeHandle)
SYNCOBJ_DESTROY = request(READ_WRITE, 0xC0, SyncobjDestroy)
SYNCOBJ_HANDLE_TO_FD = request(READ_WRITE, 0xC1, SyncobjHandle)
SYNCOBJ_FD_TO_HANDLE = request(READ_WRITE, 0xC2, SyncobjHandle)
SYNCOBJ_RESET = request(READ_WRITE, 0xC4, SyncobjArray)
SYNCOBJ_SIGNAL = request(READ_WRITE, 0xC5, SyncobjArray)
SYNCOBJ_TIMELINE_WAIT = request(READ_WRITE, 0xCA, SyncobjTimelineWait)
SYNCOBJ_QUERY = request(READ_WRITE, 0xCB, SyncobjTimelineArray)
SYNCOBJ_TIMELINE_SIGNAL = request(READ_WRITE, 0xCD, SyncobjTimelineArray)
SYNCOBJ_EVENTFD = request(READ_WRITE, 0xCF, SyncobjEventfd)
