/*
 * random.h
 *		A small seeded generator: the same numbers on every platform.
 *
 * SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
 * Generators", OOPSLA 2014): one word of state, any seed is good.
 */
#ifndef WINNOW_RANDOM_H
#define WINNOW_RANDOM_H

#include <stdint.h>

static inline uint64_t
winnow_random(uint64_t *state)
{
	uint64_t	z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Uniform in [0, 1), 53 bits. */
static inline double
winnow_random_unit(uint64_t *state)
{
	return (double) (winnow_random(state) >> 11) * 0x1p-53;
}

/* Uniform in [0, n), n > 0; the bias is below n / 2^53. */
static inline int
winnow_random_below(uint64_t *state, int n)
{
	return (int) (winnow_random_unit(state) * n);
}

#endif							/* WINNOW_RANDOM_H */
