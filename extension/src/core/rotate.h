/*
 * rotate.h
 *		A seeded random rotation of vectors of any dimension.
 *
 * The quantiser needs a rotation that is random with respect to the data, so
 * that no coordinate carries more than another.  A dense random matrix costs
 * dim^2; this one (FHT-Kac) costs dim * log(dim).  WINNOW_ROTATION_ROUNDS
 * times:
 *
 *	1. flip the signs of random coordinates;
 *	2. apply the normalised Walsh-Hadamard transform to `block` coordinates,
 *	   the largest power of two that fits: the first ones in even rounds and
 *	   the last ones in odd rounds;
 *	3. where that left coordinates out, rotate the pairs (i, i + h) by 45
 *	   degrees (one step of a Kac walk), which carries them into the reach of
 *	   the next round; h is half the dimension, rounded up, lest it be the
 *	   power of two by which the transform's own last step pairs coordinates.
 *
 * Each step is orthogonal, so lengths, distances and inner products are
 * kept, up to WINNOW_ROTATION_ERROR.  The result is the same to the bit on
 * every platform and at every SIMD level: there are only sign flips, additions
 * in a fixed order, and multiplications by constants.
 *
 * Sources: Ailon and Chazelle, "The Fast Johnson-Lindenstrauss Transform",
 * SIAM J. Comput. 39(1), 2009; Jain, Pillai, Sah, Sawhney and Smith, "Fast and
 * memory-optimal dimension reduction using Kac's walk", Ann. Appl. Probab.
 * 32(5), 2022.
 */
#ifndef WINNOW_ROTATE_H
#define WINNOW_ROTATE_H

#include <stddef.h>
#include <stdint.h>

#define WINNOW_ROTATION_ROUNDS 4

/*
 * |rotate(x) - R x| <= WINNOW_ROTATION_ERROR * |x|, where R is the exact
 * rotation: each round rounds a coordinate once per butterfly level (at most
 * 31) and in a few multiplications.
 */
#define WINNOW_ROTATION_ERROR(rotation_block) \
	(WINNOW_ROTATION_ROUNDS * \
	 (winnow_rotation_levels(rotation_block) + 6) * 5.9604644775390625e-8)

typedef struct WinnowRotation
{
	int			dim;
	int			block;			/* largest power of two <= dim */
	uint64_t	signs[];		/* per round, a bit per coordinate: flip it */
} WinnowRotation;

/* log2 of a power of two. */
static inline int
winnow_rotation_levels(int block)
{
	int			levels = 0;

	while (block > 1)
	{
		block /= 2;
		levels++;
	}
	return levels;
}

/* The largest power of two <= dim, dim >= 1. */
extern int	winnow_rotation_block(int dim);

/* Bytes of a WinnowRotation for vectors of dim >= 1 floats. */
extern size_t winnow_rotation_bytes(int dim);

/* Fill in winnow_rotation_bytes(dim) bytes at r, 8-byte aligned. */
extern void winnow_rotation_init(WinnowRotation *r, int dim, uint64_t seed);

/*
 * out = R in, dim floats each; in may equal out, but not overlap it partly.
 * An element beyond the range of float, as a very long vector may get, becomes
 * the largest float: means and distances of rows stay numbers.  quantize.h says
 * why nothing wrong is concluded from it.
 */
extern void winnow_rotate(const WinnowRotation *r, const float *in, float *out);

#endif							/* WINNOW_ROTATE_H */
