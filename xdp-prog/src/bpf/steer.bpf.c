/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * One question a packet: is it one of our groups? Yes: counted, redirected to the queue's AF_XDP
 * socket. No: to the kernel's stack, untouched. Formats: IEEE 802.3 and 802.1Q, RFC 791, RFC 768.
 *
 * Compiled twice. With RECEIVE_STAMPS, it asks the driver when a redirected packet arrived and writes
 * that in front of it: only a program that is bound to its device may, on kernels from 6.3 with BTF.
 * The plain program knows nothing of that and runs anywhere.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "steer.h"

#define VLAN_TAGS_MAX 2

/* More fragments flag and fragment offset; what remains is "don't fragment" and a reserved bit. */
#define IP_FRAGMENT 0x3fff

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, STEER_GROUPS);
	__type(key, struct steer_group);
	__type(value, __u32);
} groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_SLOTS);
	__type(key, __u32);
	__type(value, struct steer_counters);
} counters SEC(".maps");

/* Whether frames of several buffers may come (`xdp.frags`). The loader clears it where the user asks
 * for a single-buffer program; the verifier then removes the call that kernels before 5.18 lack.
 */
const volatile __u8 multi_buffer = 1;

#ifdef RECEIVE_STAMPS
#ifndef DRIVER_STAMP
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *nanoseconds) __ksym;
#define DRIVER_STAMP bpf_xdp_metadata_rx_timestamp
#endif

/* To be called last: pointers into the packet are void after it. */
static __always_inline void stamp(struct xdp_md *ctx, struct steer_counters *count)
{
	__u64 nanoseconds = 0;
	struct steer_stamp *block;

	/* Some drivers say yes and give zero. */
	if (DRIVER_STAMP(ctx, &nanoseconds))
		nanoseconds = 0;
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*block)))
		goto without;
	block = (void *)(long)ctx->data_meta;
	if ((void *)(block + 1) > (void *)(long)ctx->data)
		goto without; /* cannot be, but the verifier does not know */
	block->magic = STEER_STAMP_MAGIC;
	block->nanoseconds = nanoseconds;
	if (nanoseconds) {
		count->stamped++;
		return;
	}
without:
	count->unstamped++;
}
#else
static __always_inline void stamp(struct xdp_md *ctx, struct steer_counters *count)
{
}
#endif

struct vlan_tag {
	__be16 control;
	__be16 protocol;
};

enum class {
	NOT_OURS,
	MALFORMED,
	FRAGMENT,
	OURS,
};

static __always_inline enum class classify_ipv4(struct iphdr *ip, void *end)
{
	struct steer_group key = {};
	struct udphdr *udp;
	__u32 header_len, *flags;

	if ((void *)(ip + 1) > end)
		return MALFORMED;
	header_len = ip->ihl * 4;
	if (ip->version != 4 || header_len < sizeof(*ip))
		return MALFORMED;
	if (ip->protocol != IPPROTO_UDP)
		return NOT_OURS;

	key.address = ip->daddr;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return bpf_map_lookup_elem(&groups, &key) ? FRAGMENT : NOT_OURS;

	udp = (void *)ip + header_len;
	if ((void *)(udp + 1) > end)
		return MALFORMED;
	/* Short of a UDP header, what stands there is the padding of the Ethernet frame. */
	if (bpf_ntohs(ip->tot_len) < header_len + sizeof(*udp))
		return MALFORMED;

	key.port = udp->dest;
	flags = bpf_map_lookup_elem(&groups, &key);
	return flags && !(*flags & STEER_GROUP_ADDRESS) ? OURS : NOT_OURS;
}

static __always_inline enum class classify(void *data, void *end, struct steer_counters *count)
{
	struct ethhdr *ethernet = data;
	void *next = ethernet + 1;
	__be16 protocol;

	if (next > end)
		return MALFORMED;
	protocol = ethernet->h_proto;

#pragma unroll
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag = next;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if (i == 0)
			count->vlan++;
		next = tag + 1;
		if (next > end)
			return MALFORMED;
		protocol = tag->protocol;
	}
	return protocol == bpf_htons(ETH_P_IP) ? classify_ipv4(next, end) : NOT_OURS;
}

/* The headers are always in a frame's first buffer, so that frames of several buffers, which
 * interfaces with a large MTU hand over, need nothing but a flag at load time (BPF_F_XDP_HAS_FRAGS,
 * set by the loader, so that a single-buffer program can be had as well).
 */
SEC("xdp")
int steer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 queue = ctx->rx_queue_index;
	__u32 slot = queue < STEER_QUEUES ? queue : STEER_SLOT_OTHER;
	struct steer_counters *count = bpf_map_lookup_elem(&counters, &slot);
	long action;

	if (!count)
		return XDP_PASS; /* cannot be, but the verifier does not know */

	count->seen++;
	switch (classify(data, end, count)) {
	case OURS:
		break;
	case FRAGMENT:
		count->fragments++;
		return XDP_PASS;
	case MALFORMED:
		count->malformed++;
		return XDP_PASS;
	default:
		count->passed++;
		return XDP_PASS;
	}

	count->matched++;
	count->matched_bytes += multi_buffer ? bpf_xdp_get_buff_len(ctx) : (__u64)(end - data);
	action = bpf_redirect_map(&xsks, queue, XDP_PASS);
	if (action == XDP_REDIRECT) {
		count->redirected++;
		stamp(ctx, count);
	} else {
		count->no_socket++;
	}
	return action;
}

/* Never attached. An XSKMAP cannot be read from user space; `wiretape-xdp status` test-runs this
 * program on a packet that begins with a queue's number and learns by the verdict whether that
 * queue has a socket. No counter moves.
 */
SEC("?xdp")
int probe(struct xdp_md *ctx)
{
	__u32 *queue = (void *)(long)ctx->data;

	if ((void *)(queue + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	return bpf_redirect_map(&xsks, *queue, XDP_PASS);
}

/* No helper used here asks for a licence of the kernel's kind; the driver's stamp does. */
#ifdef RECEIVE_STAMPS
char _license[] SEC("license") = "Dual MIT/GPL";
#else
char _license[] SEC("license") = "MIT OR Apache-2.0";
#endif
