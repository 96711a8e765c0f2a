#!/bin/bash
# Installs tledge as Dockerfile.jetson does, in an arm64 Debian root, on a machine of another kind:
#
#   tests/jetson/arm64_root.sh ROOT
#
# ROOT is made and kept; it takes 1.5 GB. Needs apt, dpkg-deb, proot, qemu-aarch64-static and a cross-compiler
# (Debian: proot, qemu-user-static, g++-aarch64-linux-gnu). Packages are unpacked and not configured: under emulation that would take most of an hour.
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
    mkdir -p "$root"/{data,tmp}
    # Links that configuring would make.
    for link in cc:gcc c++:g++ awk:mawk; do ln -sf "/usr/bin/${link#*:}" "$root/usr/bin/${link%:*}"; done
fi

# What the image is built from, no more: a file that its COPY lines forget is missed here too.
copy=$root.src venv=$root.venv
rm -rf "$copy" && mkdir -p "$copy" "$venv"
for name in $(sed -n 's#^COPY \(.*\) /src/.*#\1#p' "$source/Dockerfile.jetson"); do cp -r "$source/$name" "$copy/"; done
find "$copy" -name __pycache__ -prune -exec rm -rf {} +

# CMake and gcc ask for files by calls that proot 5.1 does not know (faccessat2, statx), so that the wheel is made
# outside, by a cross-compiler against the root's own libraries, and installed inside.
export CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
    -DCMAKE_FIND_ROOT_PATH=$root -DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=NEVER
    -DCMAKE_LIBRARY_ARCHITECTURE=aarch64-linux-gnu"
python3 -m venv "$venv.host"
"$venv.host/bin/pip" install --quiet wheel
"$venv.host/bin/pip" wheel --quiet --no-deps --wheel-dir "$copy/dist" "$copy"
"$venv.host/bin/wheel" tags --remove --platform-tag linux_aarch64 "$copy"/dist/*.whl

inside() {
    proot -0 -q qemu-aarch64-static -r "$root" -b /dev -b /proc -b /etc/resolv.conf -b /etc/ssl -b /tmp -b "$copy" -b "$venv" \
        -w /data /usr/bin/env -i HOME=/root PATH="$venv/bin":/usr/bin:/bin LANG=C.UTF-8 "$@"
}

inside python3 -m venv --system-site-packages "$venv"
inside "$venv/bin/pip" install --no-cache-dir --retries 20 "$(ls "$copy"/dist/*.whl)[onnx]"
inside tledge doctor --json
inside tledge preprocess --help > /dev/null
