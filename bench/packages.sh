#!/bin/sh
# Names what this machine lacks to build and test Wiretape, and installs it with the system's
# package manager. Does nothing, quickly, when all is there.
set -eu

missing=
need_command() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need_header() {
    for dir in /usr/include /usr/local/include; do [ -e "$dir/$1" ] && return; done
    missing="$missing $2"
}

apt=false dnf=false pacman=false
if command -v apt-get >/dev/null 2>&1; then
    apt=true
    elf=libelf-dev zlib=zlib1g-dev pkgconf=pkg-config libc=libc6-dev iproute=iproute2 linux=linux-libc-dev
elif command -v dnf >/dev/null 2>&1; then
    dnf=true
    elf=elfutils-libelf-devel zlib=zlib-devel pkgconf=pkgconf libc=glibc-devel iproute=iproute linux=kernel-headers
elif command -v pacman >/dev/null 2>&1; then
    pacman=true
    elf=libelf zlib=zlib pkgconf=pkgconf libc=glibc iproute=iproute2 linux=linux-api-headers
else
    elf=libelf zlib=zlib pkgconf=pkg-config libc=libc iproute=iproute2 linux=linux-headers
fi

need_command clang clang
need_command cc gcc
need_command make make
need_command pkg-config "$pkgconf"
need_command ip "$iproute"
need_command tc "$iproute"
need_command ethtool ethtool
need_command strace strace
need_header libelf.h "$elf"
need_header zlib.h "$zlib"
need_header stdio.h "$libc"
need_header linux/bpf.h "$linux"

if ! command -v cargo >/dev/null 2>&1; then
    echo "Rust is missing: install it from https://rustup.rs (or your distribution), then run this again." >&2
    exit 1
fi

[ -n "$missing" ] || exit 0
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
echo "This machine lacks: $missing"

sudo=
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1; then
        sudo=sudo
    else
        echo "Not root, and there is no sudo: ask your administrator to install: $missing" >&2
        exit 1
    fi
fi

if $apt; then
    $sudo apt-get update -q
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
elif $dnf; then
    # shellcheck disable=SC2086
    $sudo dnf install -y $missing
elif $pacman; then
    # shellcheck disable=SC2086
    $sudo pacman -S --needed --noconfirm $missing
else
    echo "No package manager that this script knows (apt, dnf, pacman): install them by hand." >&2
    exit 1
fi
