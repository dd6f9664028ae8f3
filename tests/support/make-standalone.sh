#!/usr/bin/env bash
# usage: make-standalone.sh [SUITE] [ARCH]      prints the directory of a release site
#
# A relocatable CPython in the shape and under the names of a python-build-standalone release, made from Debian's own
# packages with patchelf, because the real ones cannot be had on every machine that runs the tests:
#
#   <site>/latest-release.json
#   <site>/20200202/SHA256SUMS
#   <site>/20200202/cpython-<version>+20200202-<machine>-unknown-linux-gnu-install_only_stripped.tar.gz
#
# The interpreter and every library it needs but glibc's lie below python/, found by run paths with $ORIGIN. It differs
# from the real thing in one way that the tests want: its sysconfig prefers the scheme `posix_local`.
# Kept outside the clone, by the hash of this script and its arguments. Needs no root; needs apt, dpkg-deb, patchelf.
set -euo pipefail
export LC_ALL=C

suite=${1:-bookworm}
arch=${2:-$(dpkg --print-architecture)}
tag=20200202
case $suite in
bookworm) short=3.11 ;;
trixie) short=3.13 ;;
*) echo "no recipe for suite $suite" >&2; exit 2 ;;
esac
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "no recipe for architecture $arch" >&2; exit 2 ;;
esac

key=$({ cat "${BASH_SOURCE[0]}"; echo "$suite $arch"; } | sha256sum | cut -c1-16)
cache=${MLBUILD_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlbuild-ci}/standalone
site=$cache/$suite-$arch-$key
mkdir -p "$cache"
exec 9>"$site.lock"
flock 9
if [ -f "$site/latest-release.json" ]; then
    echo "$site"
    exit
fi

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# -- The packages: the closure as apt sees it on an empty machine of that architecture, from the host's own mirror.
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,root,dev}
chmod -R a+rX "$work"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' |
    awk -v by="$keyring" -v suite="$suite" \
        '$2 !~ /security|updates|backports/ && !seen[$1]++ { print "deb [signed-by=" by "]", $1, suite, "main" }' \
        >"$work/sources.list"
[ -s "$work/sources.list" ] || { echo "the host's apt knows no Debian mirror" >&2; exit 1; }
apt=(-qq -o "Dir::State=$work/state" -o Dir::State::status=/dev/null -o "Dir::Cache=$work/cache"
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "APT::Architecture=$arch"
    -o "APT::Architectures=$arch" -o APT::Sandbox::User= -o Acquire::Languages=none)
apt-get "${apt[@]}" update >&2
apt-get "${apt[@]}" install -y --download-only --no-install-recommends \
    "python$short-minimal" "libpython$short-stdlib" >&2
(cd "$work/dev" && apt-get "${apt[@]}" download "libpython$short-dev" >&2)
for deb in "$work"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
for deb in "$work"/dev/*.deb; do dpkg-deb -x "$deb" "$work/devroot"; done

# -- The tree.
root=$work/root python=$work/python
mkdir -p "$python"/{bin,lib,include}
version=$(dpkg-deb -f "$work"/cache/archives/python$short-minimal_*.deb Version | sed 's/[-~+].*//')
cp "$root/usr/bin/python$short" "$python/bin/"
ln -s "python$short" "$python/bin/python3"
printf '#!/bin/sh\nexec "$(dirname "$0")/python3" -m pip "$@"\n' >"$python/bin/pip3"
chmod 755 "$python/bin/pip3"
cp -a "$root/usr/lib/python$short" "$python/lib/"
cp -a "$work/devroot/usr/include/python$short" "$python/include/"
find "$python" -xtype l -delete
rm -rf "$python/lib/python$short/sitecustomize.py" "$python/lib/python$short"/config-*
mkdir -p "$python/lib/python$short/site-packages/pip"
echo '# stands for the pip of a real archive' >"$python/lib/python$short/site-packages/pip/__init__.py"
cp "$root/usr/share/doc/python$short-minimal/copyright" "$python/lib/python$short/LICENSE.txt"
sed -i "s#'prefix': '/usr'#'prefix': '/install'#" "$python/lib/python$short"/_sysconfigdata*.py

# -- The libraries, all but glibc's, beside it.
needed() { patchelf --print-needed "$1" 2>/dev/null || true; }
glibc='^(ld-linux.*|lib(c|m|dl|pthread|rt|util|resolv|anl|nss_.*)\.so\..*)$'
todo=("$python/bin/python$short" "$python/lib/python$short/lib-dynload"/*.so)
while [ ${#todo[@]} -gt 0 ]; do
    file=${todo[0]}
    todo=("${todo[@]:1}")
    for library in $(needed "$file"); do
        if [[ $library =~ $glibc ]] || [ -e "$python/lib/$library" ]; then continue; fi
        found=$(find "$root" -path '*/lib/*' -name "$library" -print -quit)
        [ -n "$found" ] || { echo "$library, which $file needs, is in no package" >&2; exit 1; }
        cp -L "$found" "$python/lib/$library"
        todo+=("$python/lib/$library")
    done
done
chmod -R u+w "$python"
# DT_RPATH, not RUNPATH: LD_LIBRARY_PATH must not win over it.
patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$python/bin/python$short"
for file in "$python/lib/python$short/lib-dynload"/*.so; do
    patchelf --force-rpath --set-rpath '$ORIGIN/../..' "$file"
done
for file in "$python"/lib/*.so.*; do patchelf --force-rpath --set-rpath '$ORIGIN' "$file"; done
for link in $(find "$python" -type l -lname '/*'); do rm "$link"; done

# -- The site.
name=cpython-$version+$tag-$machine-unknown-linux-gnu-install_only_stripped.tar.gz
mkdir -p "$work/site/$tag"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$work" -cf - python | gzip -n6 >"$work/site/$tag/$name"
(cd "$work/site/$tag" && sha256sum -- *.tar.gz >SHA256SUMS)
cat >"$work/site/latest-release.json" <<J
{"version":1,"tag":"$tag","release_url":"http://127.0.0.1/$tag","asset_url_prefix":"http://127.0.0.1/$tag"}
J
rm -rf "$site"
mv "$work/site" "$site"
echo "$site"
