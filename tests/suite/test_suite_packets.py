"""The words of a command buffer."""

from __future__ import annotations

from harness.suite import packets, uapi


def test_header_fields() -> None:
    word = packets.header(uapi.Opcode.START_NPU, 6)
    assert word & 0xF == uapi.Command.NEW
    assert word >> 12 & 0x7FF == 6
    assert word >> 23 & 0x1F == 20
    assert packets.state(word) == uapi.Command.NEW


def test_count_matches_the_words_that_follow() -> None:
    for words in (packets.start_cu(), packets.start_npu(0x4000000, 256), packets.chain([3, 4])):
        assert words[0] >> 12 & 0x7FF == len(words) - 1


def test_npu_address_is_split_low_word_first() -> None:
    words = packets.start_npu(0x1_2345_6789, 64)
    assert words[2:4] == [0x23456789, 0x1]


def test_chain_carries_handles_as_64_bits() -> None:
    words = packets.chain([7, 9])
    assert words[1] == 2
    assert words[7:] == [7, 0, 9, 0]
    assert packets.chain([], count=5)[1] == 5
