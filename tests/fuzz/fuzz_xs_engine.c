/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's engine. An input is a row of chunks: a byte that says which client and
 * whether time goes by, two bytes of length, and what that client sends.
 */
#include "harness.h"
#include "input.h"
#include "xs_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct world *world = world_new(size);

    fuzz_counts->inputs++;
    while (input.left >= 3) {
        uint8_t head = input_u8(&input);
        uint16_t len = input_u16(&input);
        struct input chunk;

        if (head & 0x80)
            world_wait(world, len);
        chunk = input_part(&input, len);
        world_feed(world, head & 0x7f, chunk.data, chunk.left);
    }
    fuzz_counts->slots += world_counts(world)->messages;
    world_check(world);
    world_free(world);
    return 0;
}
