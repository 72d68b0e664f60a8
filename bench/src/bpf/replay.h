/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the sender and its XDP program share; mirrored in src/exchange/sink/live_frames.rs.
 */
#pragma once

/* Frames that one call can send; a power of two. */
#define REPLAY_SLOTS 1024

/* Longest frame: what a page of a test run leaves after its head, rounded so that a slot has
 * 2048 bytes. */
#define REPLAY_FRAME_MAX 2044

struct replay_slot {
	__u32 length;
	__u8 frame[REPLAY_FRAME_MAX];
};
