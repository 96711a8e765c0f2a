#!/bin/bash
# Installs tledge as Dockerfile.jetson does, in an arm64 Debian root, on a machine of another kind:
#
#   tests/jetson/arm64_root.sh ROOT
#
# ROOT is made and kept; it takes 1.5 GB. Needs apt, dpkg-deb, proot and qemu-aarch64-static (Debian: proot,
# qemu-user-static). Packages are unpacked and not configured: under emulation that would take most of an hour.
# What needs NVIDIA's base image is left out: TensorRT's bindings, and pycuda, which is compiled against CUDA.
set -euo pipefail
root=${1:?where the root goes}
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$root.packages

if [ ! -x "$root/usr/bin/python3" ]; then
    mkdir -p "$root" "$work"/{state/lists/partial,cache/archives/partial}
    : > "$work/status"
    options=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o "Dir::State=$work/state"
        -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update
    # Those of Dockerfile.jetson by their names in Debian, which has no libjpeg-turbo8-dev.
    apt-get -qq "${options[@]}" install --yes --download-only --no-install-recommends \
        build-essential cmake libjpeg62-turbo-dev python3-dev python3-venv libc-bin bash coreutils ca-certificates
    for package in "$work"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    mkdir -p "$root"/{src,data,tmp}
    # Links that configuring would make.
    for link in cc:gcc c++:g++ awk:mawk; do ln -sf "/usr/bin/${link#*:}" "$root/usr/bin/${link%:*}"; done
fi

# What the image is built from, no more: a file that its COPY lines forget is missed here too.
rm -rf "$root/src" && mkdir "$root/src"
for name in $(sed -n 's#^COPY \(.*\) /src/.*#\1#p' "$source/Dockerfile.jetson"); do cp -r "$source/$name" "$root/src/"; done
find "$root/src" -name __pycache__ -prune -exec rm -rf {} +

# proot 5.1 knows neither faccessat2 nor statx, by which CMake asks for files: paths must be the same outside.
venv=$root/venv && mkdir -p "$venv"
inside() {
    proot -0 -q qemu-aarch64-static -r "$root" -b /dev -b /proc -b /etc/resolv.conf -b /etc/ssl -b /tmp -b "$root/src" -b "$venv" \
        -b /usr/share/cmake-3.25 -w /data \
        /usr/bin/env -i HOME=/root PATH="$venv/bin":/usr/bin:/bin LANG=C.UTF-8 "$@"
}

inside python3 -m venv --system-site-packages "$venv"
inside "$venv/bin/pip" install --no-cache-dir --retries 20 "$root/src[onnx]"
inside tledge doctor --json
inside tledge preprocess --help > /dev/null
