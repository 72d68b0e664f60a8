/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Sends prepared frames out of an interface. bpf_prog_test_run with BPF_F_TEST_XDP_LIVE_FRAMES
 * runs `replay` once for each frame of a batch, on a page that it reuses; the program replaces
 * the page's content by the next frame of an array that the sender has mapped, and redirects it.
 * So one system call sends a thousand different frames.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "replay.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, REPLAY_SLOTS);
	__type(key, __u32);
	__type(value, struct replay_slot);
} slots SEC(".maps");

/* The interface to send on. */
const volatile __u32 out_ifindex;

/* The slot of the next frame. Runs of one sender never overlap. */
__u32 next_slot;
/* Frames that could not be built: a slot with a bad length, or one too long for the page. */
__u64 refused;

SEC("xdp")
int replay(struct xdp_md *ctx)
{
	__u32 key = next_slot;
	struct replay_slot *slot;
	__u32 length, room;

	next_slot = (key + 1) % REPLAY_SLOTS;
	key %= REPLAY_SLOTS;
	slot = bpf_map_lookup_elem(&slots, &key);
	if (!slot)
		goto refuse;
	length = slot->length;
	if (length < ETH_HLEN || length > REPLAY_FRAME_MAX)
		goto refuse;
	room = ctx->data_end - ctx->data;
	if (room != length && bpf_xdp_adjust_tail(ctx, (int)length - (int)room))
		goto refuse;
	if (bpf_xdp_store_bytes(ctx, 0, slot->frame, length))
		goto refuse;
	return bpf_redirect(out_ifindex, 0);
refuse:
	refused++;
	return XDP_DROP;
}

/* A receiver for measurements and tests: counts and drops. */
__u64 swallowed_frames;
__u64 swallowed_bytes;

SEC("xdp")
int swallow(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&swallowed_frames, 1);
	__sync_fetch_and_add(&swallowed_bytes, ctx->data_end - ctx->data);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
