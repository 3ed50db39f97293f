/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer's entry to the store's engine. An input is a row of chunks: a byte
 * that says which client and whether time goes by, two bytes of length, and
 * what that client sends.
 *
 * tests/native/test_xs_fuzz.py builds and runs it for a few seconds.
 */
#include "xs_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *world = world_new(size);

    while (size >= 3) {
        size_t len = (size_t)data[1] | (size_t)data[2] << 8;

        if (data[0] & 0x80)
            world_wait(world, len);
        data += 3;
        size -= 3;
        len = len < size ? len : size;
        world_feed(world, data[-3] & 0x7f, data, len);
        data += len;
        size -= len;
    }
    world_check(world);
    world_free(world);
    return 0;
}
