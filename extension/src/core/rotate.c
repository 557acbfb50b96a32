/*
 * rotate.c
 *		A seeded random rotation of vectors of any dimension; see rotate.h.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../kernels/kernels.h"
#include "random.h"
#include "rotate.h"

/* Four lanes in the compiler's own vector types: SSE2 or NEON by default. */
typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));

static int
words_per_round(int dim)
{
	return (int) (((int64_t) dim + 63) / 64);
}

int
winnow_rotation_block(int dim)
{
	int			block = 1;

	while (block <= dim / 2)
		block *= 2;
	return block;
}

size_t
winnow_rotation_bytes(int dim)
{
	return sizeof(WinnowRotation) +
		(size_t) WINNOW_ROTATION_ROUNDS * words_per_round(dim) * sizeof(uint64_t);
}

void
winnow_rotation_init(WinnowRotation *r, int dim, uint64_t seed)
{
	int			words = WINNOW_ROTATION_ROUNDS * words_per_round(dim);

	r->dim = dim;
	r->block = winnow_rotation_block(dim);
	for (int i = 0; i < words; i++)
		r->signs[i] = winnow_random(&seed);
}

/* Negate v[i] where bit i of signs is set. */
static void
flip_signs(float *v, int dim, const uint64_t *signs)
{
	const Int4	lane = {1, 2, 4, 8};
	int			i = 0;

	for (; i + 4 <= dim; i += 4)
	{
		int32_t		bits = (int32_t) (signs[i / 64] >> (i % 64) & 15);
		Int4 flip = (((Int4){bits, bits, bits, bits} & lane) != 0) &
			INT32_MIN;
		Int4		x;

		memcpy(&x, v + i, sizeof(x));
		x ^= flip;
		memcpy(v + i, &x, sizeof(x));
	}
	for (; i < dim; i++)
		if (signs[i / 64] >> (i % 64) & 1)
			v[i] = -v[i];
}

static void
multiply(float *v, int n, float factor)
{
	int			i = 0;

	for (; i + 4 <= n; i += 4)
	{
		Float4		x;

		memcpy(&x, v + i, sizeof(x));
		x *= factor;
		memcpy(v + i, &x, sizeof(x));
	}
	for (; i < n; i++)
		v[i] *= factor;
}

/*
 * Rotate the pairs (a[i], b[i]) by 45 degrees, with a reflection.  Adding
 * before multiplying leaves the compiler nothing to fuse, which would round
 * differently from platform to platform.
 */
static void
mix_pairs(float *a, float *b, int n)
{
	const float scale = 0.70710678118654752440f;
	int			i = 0;

	for (; i + 4 <= n; i += 4)
	{
		Float4		x;
		Float4		y;
		Float4		sum;
		Float4		difference;

		memcpy(&x, a + i, sizeof(x));
		memcpy(&y, b + i, sizeof(y));
		sum = (x + y) * scale;
		difference = (x - y) * scale;
		memcpy(a + i, &sum, sizeof(sum));
		memcpy(b + i, &difference, sizeof(difference));
	}
	for (; i < n; i++)
	{
		float		x = a[i];
		float		y = b[i];

		a[i] = (x + y) * scale;
		b[i] = (x - y) * scale;
	}
}

/*
 * Elements up to here are rotated as they are: those of the result are below 2^128, as the length is at most 127 times
 * the largest element, and sums on the way sqrt(2) times that.
 */
#define LARGE_ELEMENT 0x1p119f

/* Longer vectors are divided by that before they are rotated */
#define LONG_SCALE 0x1p32f

static void
rotate_in_place(const WinnowRotation *r, float *out)
{
	int			dim = r->dim;
	int			words = words_per_round(dim);
	float		scale = 1.0f / sqrtf((float) r->block);

	for (int round = 0; round < WINNOW_ROTATION_ROUNDS; round++)
	{
		float	   *block = round % 2 == 0 ? out : out + (dim - r->block);

		flip_signs(out, dim, r->signs + (size_t) round * words);

		/*
		 * Normalise before the transform: so nothing overflows unless the
		 * length of the vector itself is about to.
		 */
		multiply(block, r->block, scale);
		winnow_kernels->hadamard(block, r->block);
		if (r->block < dim)
			mix_pairs(out, out + (dim + 1) / 2, dim / 2);
	}
}

void
winnow_rotate(const WinnowRotation *r, const float *in, float *out)
{
	int			dim = r->dim;
	bool		whole = true;

	for (int i = 0; i < dim; i++)
		whole &= fabsf(in[i]) <= LARGE_ELEMENT;
	if (in != out)
		memcpy(out, in, (size_t) dim * sizeof(float));
	if (whole)
	{
		rotate_in_place(r, out);
		return;
	}
	multiply(out, dim, 1 / LONG_SCALE);
	rotate_in_place(r, out);
	for (int i = 0; i < dim; i++)
	{
		double		x = (double) out[i] * LONG_SCALE;

		if (!(x <= FLT_MAX))	/* also NaN */
			x = FLT_MAX;
		out[i] = (float) (x < -FLT_MAX ? -FLT_MAX : x);
	}
}
