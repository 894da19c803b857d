/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/harness.h"

#include "base/hash.h"

#include <stdlib.h>

/* Inputs whose first word is each constant of the function, in turn, so that a product with zero
 * would swallow the word that follows. */
TEST(no_constant_of_the_function_makes_inputs_collide)
{
    static const uint64_t constants[] = {0,
                                         HASH_K0,
                                         HASH_K1,
                                         HASH_K2,
                                         HASH_K0 ^ HASH_K2,
                                         HASH_K1 ^ HASH_K2,
                                         HASH_K0 ^ HASH_K1,
                                         HASH_K0 ^ HASH_K1 ^ HASH_K2};
    uint64_t seed = test_rand();
    for (size_t n = 9; n <= 40; n++) {
        for (size_t c = 0; c < ARRAY_LEN(constants); c++) {
            uint64_t seen[64];
            for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
                uint8_t in[40] = {0};
                store_u64le(in, constants[c] ^ (n <= 16 ? n : 0));
                in[8] = (uint8_t)i;
                seen[i] = hash64(in, n, seed);
                for (size_t k = 0; k < i; k++)
                    CHECK(seen[k] != seen[i]);
            }
        }
    }
}

TEST(every_input_bit_moves_about_half_of_the_output)
{
    for (size_t n = 1; n <= 33; n++) {
        uint8_t in[33];
        uint64_t seed = test_rand(), turned = 0, flips = 0;
        for (int round = 0; round < 50; round++) {
            for (size_t i = 0; i < n; i++)
                in[i] = (uint8_t)test_rand();
            uint64_t before = hash64(in, n, seed);
            for (size_t bit = 0; bit < n * 8; bit++) {
                in[bit / 8] ^= (uint8_t)(1u << bit % 8);
                turned += (uint64_t)__builtin_popcountll(before ^ hash64(in, n, seed));
                flips++;
                in[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
        }
        CHECK(turned > flips * 30 && turned < flips * 34);
    }
}
