/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the XDP program and user space share: the maps' names, keys and values.
 *
 * This file is the definition. `src/counters.rs` and `src/group.rs` mirror it for the loader; the
 * capture process, which opens the pins by itself, keeps its own mirror. Tests hold them together.
 *
 * Pins, made by `wiretape-xdp load`, one directory an interface:
 *
 *     <pin-dir>/<interface>/link      the attachment; its removal detaches the program
 *     <pin-dir>/<interface>/prog      the program attached now
 *     <pin-dir>/<interface>/xsks      XSKMAP,       key u32 receive queue, value AF_XDP socket
 *     <pin-dir>/<interface>/groups    HASH,         key struct steer_group, value u32 flags
 *     <pin-dir>/<interface>/counters  PERCPU_ARRAY, key u32 slot, value struct steer_counters
 *     <pin-dir>/<interface>/stamps    ARRAY of one, value u64 STEER_STAMP_MAGIC; is there only if the
 *                                     program writes a struct steer_stamp in front of packets
 *
 * <pin-dir> is /sys/fs/bpf/wiretape unless another is given. The bpf file system refuses names
 * with a dot, so a dot of an interface's name (eth0.100) is written as a colon (eth0:100), which no
 * interface's name can contain.
 */
#ifndef WIRETAPE_STEER_H
#define WIRETAPE_STEER_H

/* Receive queues that can have a socket, and a slot of counters each. */
#define STEER_QUEUES 64

/* The slot that counts packets of queues from STEER_QUEUES up. None of them can have a socket. */
#define STEER_SLOT_OTHER STEER_QUEUES
#define STEER_SLOTS (STEER_QUEUES + 1)

/* Entries of `groups`, the address markers included. */
#define STEER_GROUPS 4096

/* `groups`, key: where a packet goes. 8 bytes, no hidden padding. */
struct steer_group {
	__be32 address; /* IPv4 destination, network byte order */
	__be16 port;    /* UDP destination port, network byte order; 0 in an address marker */
	__u16 pad;      /* zero */
};

/* `groups`, value: flags. A plain group has none (value 0).
 *
 * A fragment after the first carries no port. So that fragments of a group can be counted, whoever
 * adds a group (address, port) also adds the marker (address, 0) with this flag, and removes it with
 * the address's last group. A marker matches fragments only, never a packet to port 0.
 */
#define STEER_GROUP_ADDRESS (1u << 0)

/* `counters`, value: one per slot and CPU, written by that CPU only, counting up from zero.
 *
 * Every packet is counted in exactly one of the classes, so in each slot, over all CPUs and at rest,
 *
 *     seen    = passed + fragments + malformed + matched
 *     matched = redirected + no_socket
 *
 * and, where the program asks the driver for receive times, redirected = stamped + unstamped.
 * Packets the classes do not redirect go to the kernel's stack unchanged: nothing is dropped here.
 * 128 bytes; counters to come take reserved words, so that `replace` can keep the map.
 */
struct steer_counters {
	__u64 seen;          /* every packet that reached the program */
	__u64 passed;        /* not ours: other protocol, address or port, or more than two VLAN tags */
	__u64 matched;       /* to one of our groups */
	__u64 redirected;    /* of those: handed to the queue's socket, whose own counters go on */
	__u64 matched_bytes; /* of those: frame bytes from the Ethernet header on, without the FCS */
	__u64 no_socket;     /* of those: the queue had no socket, passed to the kernel */
	__u64 fragments;     /* IPv4 fragment to the address of a group, passed to the kernel */
	__u64 malformed;     /* truncated or impossible VLAN, IPv4 or UDP header, passed */
	__u64 vlan;          /* carried 802.1Q or 802.1ad tags; counted beside the classes */
	__u64 stamped;       /* of the redirected: with the NIC's receive time in front */
	__u64 unstamped;     /* of the redirected: the driver had none, or there was no room for it */
	__u64 reserved[5];   /* zero */
};

/* First word of a struct steer_stamp of this layout: "WTSTAMP1" in memory. */
#define STEER_STAMP_MAGIC 0x31504d4154535457ULL

/* What `load --receive-stamps` has the program write directly in front of each packet that it
 * redirects: in an AF_XDP frame, the 16 bytes that end where the descriptor's address begins. They
 * are never cleared, so whoever reads them spoils the magic.
 */
struct steer_stamp {
	__u64 magic;
	__u64 nanoseconds; /* the NIC's clock when the packet arrived; 0 if the driver had no time */
};

#endif
