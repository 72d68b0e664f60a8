/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * For tests: in the place of a driver whose NIC stamps packets, the kernel's clock. Included in front
 * of xdp-prog's steer.bpf.c, compiled with RECEIVE_STAMPS.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define DRIVER_STAMP clock_stamp

/* What the kernel takes TAI to be ahead of UTC, and what a NIC's clock does. */
const volatile __u64 kernel_tai_ahead_ns;
const volatile __u64 nic_tai_ahead_ns;

__u64 asked;

/* In turn: a time in UTC, in TAI, none, and one of a clock that started with the machine. */
static __always_inline int clock_stamp(struct xdp_md *ctx, __u64 *nanoseconds)
{
	__u64 utc = bpf_ktime_get_tai_ns() - kernel_tai_ahead_ns;

	switch (asked++ % 4) {
	case 0:
		*nanoseconds = utc;
		return 0;
	case 1:
		*nanoseconds = utc + nic_tai_ahead_ns;
		return 0;
	case 2:
		return -61; /* ENODATA */
	default:
		*nanoseconds = 1000000000;
		return 0;
	}
}
