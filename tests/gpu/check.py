"""What a CUDA program needs, tried with nothing but Python and the driver: run in a sandbox that has GPUs.

Loads libcuda.so.1 as the linker finds it, compiles a kernel from PTX, which every driver since CUDA 9 takes and every GPU
since Maxwell runs, launches it on each GPU and checks every number that it wrote. Prints what it found, a line each; ends
with 1 and the name of the call that failed.
"""

import array
import ctypes
import os
import sys
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

# y[i] = a * x[i] + y[i]
PTX = b"""
.version 6.0
.target sm_52
.address_size 64
.visible .entry axpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
    .reg .pred %over;
    .reg .b32 %i, %size, %thread, %n;
    .reg .b64 %x, %y, %offset;
    .reg .f32 %a, %left, %right;
    mov.u32 %i, %ctaid.x;
    mov.u32 %size, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.u32 %i, %i, %size, %thread;
    ld.param.u32 %n, [n];
    setp.ge.u32 %over, %i, %n;
    @%over bra END;
    ld.param.u64 %x, [x];
    ld.param.u64 %y, [y];
    ld.param.f32 %a, [a];
    cvta.to.global.u64 %x, %x;
    cvta.to.global.u64 %y, %y;
    mul.wide.u32 %offset, %i, 4;
    add.u64 %x, %x, %offset;
    add.u64 %y, %y, %offset;
    ld.global.f32 %left, [%x];
    ld.global.f32 %right, [%y];
    fma.rn.f32 %right, %a, %left, %right;
    st.global.f32 [%y], %right;
END:
    ret;
}
"""
NUMBERS = 100_003  # no multiple of a block
BLOCK = 256
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
PARAMS = "/proc/driver/nvidia/params"

cuda = ctypes.CDLL("libcuda.so.1")


def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status != 0:
        text = c_char_p()
        cuda.cuGetErrorString(status, byref(text))
        sys.exit(f"{name}: {status}: {(text.value or b'no such error').decode()}")


def integer(name, *arguments):
    value = c_int()
    call(name, byref(value), *arguments)
    return value.value


def on(device):
    """The name of the GPU, once it has computed."""
    name = ctypes.create_string_buffer(100)
    call("cuDeviceGetName", name, len(name), device)
    context, module, kernel = c_void_p(), c_void_p(), c_void_p()
    call("cuDevicePrimaryCtxRetain", byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuModuleLoadData", byref(module), c_char_p(PTX))
    call("cuModuleGetFunction", byref(kernel), module, b"axpy")

    # Small whole numbers: the results are exact.
    x = array.array("f", (i % 1000 for i in range(NUMBERS)))
    y = array.array("f", (i % 7 for i in range(NUMBERS)))
    size = c_size_t(NUMBERS * x.itemsize)
    places = []
    for numbers in (x, y):
        place = c_uint64()
        call("cuMemAlloc_v2", byref(place), size)
        call("cuMemcpyHtoD_v2", place, c_void_p(numbers.buffer_info()[0]), size)
        places.append(place)
    values = (*places, c_float(3), c_uint(NUMBERS))
    parameters = (c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    blocks = -(-NUMBERS // BLOCK)
    call("cuLaunchKernel", kernel, blocks, 1, 1, BLOCK, 1, 1, 0, None, parameters, None)
    call("cuCtxSynchronize")
    found = array.array("f", bytes(size.value))
    call("cuMemcpyDtoH_v2", c_void_p(found.buffer_info()[0]), places[1], size)
    for i in range(NUMBERS):
        if found[i] != 3 * x[i] + y[i]:
            sys.exit(f"{name.value.decode()}: number {i} is {found[i]}, not {3 * x[i] + y[i]}")
    for place in places:
        call("cuMemFree_v2", place)
    call("cuModuleUnload", module)
    call("cuDevicePrimaryCtxRelease_v2", device)
    return name.value.decode()


def main():
    call("cuInit", 0)
    with open("/proc/self/maps") as maps:
        print("library", next(line.split()[-1] for line in maps if "libcuda.so" in line))
    version = integer("cuDriverGetVersion")
    print(f"cuda {version // 1000}.{version % 1000 // 10}")
    count = integer("cuDeviceGetCount")
    print("devices", count)
    for index in range(count):
        device = integer("cuDeviceGet", index)
        major, minor = (
            integer("cuDeviceGetAttribute", attribute, device) for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR)
        )
        print(f"device {index} {on(device)}, {major}.{minor}: {NUMBERS} numbers are right")
    if os.path.exists(PARAMS):
        with open(PARAMS) as params:
            fixed = "ModifyDeviceFiles: 0\n" in params
        print("device files are", "fixed" if fixed else "changed by the driver")
        if not fixed:
            sys.exit(1)
    if count == 0:
        sys.exit("no device")


main()
