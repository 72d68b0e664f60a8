#!/bin/sh
# Makes a Debian package of the release binaries (`make deb`): target/deb/wiretape_VERSION_ARCH.deb,
# with manual pages, completions, systemd units, the user and the folder of segments. BIN names
# another folder of binaries, VERSION another version.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-target/release}
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)}
if ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "dpkg-deb is missing: a Debian package is made on Debian, Ubuntu or with the package dpkg" >&2
    exit 1
fi
arch=$(dpkg --print-architecture)
for one in wiretape wiretape-host wiretape-capture wiretape-xdp; do
    [ -x "$bin/$one" ] || { echo "$bin/$one is missing: run make build first" >&2; exit 1; }
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
umask 022
put() { install -D -m "$1" "$2" "$root/$3"; }

for one in wiretape wiretape-host wiretape-capture wiretape-xdp; do
    put 755 "$bin/$one" "usr/bin/$one"
    # Symbols stay: `wiretape logs` finds the worker's sentences in them.
    strip --strip-debug "$root/usr/bin/$one"
    mkdir -p "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" \
        "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
    case $one in
    wiretape | wiretape-xdp)
        # A page for each command, which the first one refers to.
        completions="completions"
        "$bin/$one" man "$root/usr/share/man/man1"
        ;;
    *)
        completions="--completions"
        "$bin/$one" --man >"$root/usr/share/man/man1/$one.1"
        ;;
    esac
    "$bin/$one" $completions bash >"$root/usr/share/bash-completion/completions/$one"
    "$bin/$one" $completions zsh >"$root/usr/share/zsh/vendor-completions/_$one"
    "$bin/$one" $completions fish >"$root/usr/share/fish/vendor_completions.d/$one.fish"
done
gzip -9n "$root"/usr/share/man/man1/*.1
for unit in docs/operating/systemd/*.service; do
    put 644 "$unit" "usr/lib/systemd/system/$(basename "$unit")"
done
put 644 docs/operating/systemd/wiretape.sysusers usr/lib/sysusers.d/wiretape.conf
put 644 docs/operating/systemd/wiretape.tmpfiles usr/lib/tmpfiles.d/wiretape.conf
put 644 docs/operating/capture.example.toml usr/share/doc/wiretape/capture.example.toml
put 644 docs/operating/guide.md usr/share/doc/wiretape/guide.md
put 644 README.md usr/share/doc/wiretape/README.md
put 644 docs/limits.md usr/share/doc/wiretape/limits.md
for file in docs/operating/etc/*.env; do
    put 644 "$file" "etc/wiretape/$(basename "$file")"
done
{
    cat <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: wiretape

Files: *
Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE-MIT)
License: Expat or Apache-2.0

License: Expat
COPYRIGHT
    sed -n '/^Permission/,$p' LICENSE-MIT | sed 's/^$/./; s/^/ /'
    echo
    echo "License: Apache-2.0"
    echo " On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0."
} >"$root/usr/share/doc/wiretape/copyright"
chmod 644 "$root/usr/share/doc/wiretape/copyright"
{
    echo "wiretape ($version) unstable; urgency=medium"
    echo
    echo "  * What changed is in the history of the sources."
    echo
    echo " -- Wiretape <maintainers@wiretape.example>  $(date -R -d "@$(git log -1 --format=%ct 2>/dev/null || echo 0)")"
} | gzip -9n >"$root/usr/share/doc/wiretape/changelog.gz"
mkdir "$root/DEBIAN"
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
(cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
# The newest version of the C library that a program asks for.
libc=$(cat "$root"/usr/bin/* | grep -ao 'GLIBC_2\.[0-9]*' | sort -uV | tail -1)

cat >"$root/DEBIAN/control" <<CONTROL
Package: wiretape
Version: $version
Architecture: $arch
Section: net
Priority: optional
Maintainer: Wiretape <maintainers@wiretape.example>
Depends: libc6 (>= ${libc#GLIBC_}), libgcc-s1, libelf1 | libelf1t64, zlib1g, ethtool, passwd
Recommends: iproute2
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Description: market-data capture appliance
 Takes exchange feeds from the network card (XDP, AF_XDP), decodes them, merges
 lines A and B, keeps the order books and publishes every event into shared
 memory, where any number of readers follow without disturbing the writer.
CONTROL
cat >"$root/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if command -v systemd-sysusers >/dev/null 2>&1; then
        systemd-sysusers ${DPKG_ROOT:+--root="$DPKG_ROOT"} wiretape.conf
    elif ! getent passwd wiretape >/dev/null; then
        useradd --system --user-group --home-dir / --shell /usr/sbin/nologin wiretape
    fi
    if [ -z "${DPKG_ROOT:-}" ] && command -v systemd-tmpfiles >/dev/null 2>&1; then
        systemd-tmpfiles --create wiretape.conf || true
    fi
    if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
    fi
fi
SCRIPT
cat >"$root/DEBIAN/prerm" <<'SCRIPT'
#!/bin/sh
set -e
# An upgrade leaves running units alone: they are restarted when it suits the operator.
if [ "$1" = remove ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl stop 'wiretape-record@*' 'wiretape-capture@*' wiretape-metrics wiretape-host 'wiretape-xdp@*' || true
fi
SCRIPT
cat >"$root/DEBIAN/postrm" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    # Segments, the doctor's record, and what `systemctl enable` made. Recordings
    # (/var/lib/wiretape), configurations of your own and the user stay.
    rm -rf "${DPKG_ROOT:-}/dev/shm/wiretape" "${DPKG_ROOT:-}/var/lib/wiretape-doctor"
    if [ -d "${DPKG_ROOT:-}/etc/systemd/system" ]; then
        find "${DPKG_ROOT:-}/etc/systemd/system" -mindepth 2 -name 'wiretape-*.service' -type l -delete
    fi
fi
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
SCRIPT
chmod 755 "$root"/DEBIAN/post* "$root"/DEBIAN/prerm

mkdir -p target/deb
deb=target/deb/wiretape_${version}_$arch.deb
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
echo "$deb"
