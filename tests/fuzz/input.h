/* SPDX-License-Identifier: BSD-2-Clause */
/* A fuzzer's input, read from its beginning; beyond its end all is 0. */
#ifndef XV_FUZZ_INPUT_H
#define XV_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *data;
    size_t left;
};

/** input_u8() - The next byte. */
static inline uint8_t input_u8(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->data++;
}

/** input_u16() - The next two, the low one first. */
static inline uint16_t input_u16(struct input *input)
{
    uint16_t low = input_u8(input);

    return (uint16_t)(low | input_u8(input) << 8);
}

/** input_u32() - The next four, the lowest first. */
static inline uint32_t input_u32(struct input *input)
{
    uint32_t low = input_u16(input);

    return low | (uint32_t)input_u16(input) << 16;
}

/** input_part() - The next @len bytes, or all that are left, as an input. */
static inline struct input input_part(struct input *input, size_t len)
{
    struct input part = {input->data, len < input->left ? len : input->left};

    input->data += part.left;
    input->left -= part.left;
    return part;
}

#endif
