/*
 * dispatch.c
 *		Choose the kernels for the CPU that runs.
 *
 * __builtin_cpu_supports asks cpuid for the instructions and xgetbv for the
 * registers that the operating system saves, so a feature it reports is safe
 * to use.
 */
#include "internal.h"

const WinnowKernels *winnow_kernels = &winnow_kernels_scalar;

const WinnowKernels *
winnow_kernels_at(WinnowSimd level)
{
#ifdef WINNOW_HAVE_X86
	bool		avx2;
	bool		avx512;

	__builtin_cpu_init();
	avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		__builtin_cpu_supports("popcnt");
	avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
		__builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl");
#endif

	switch (level)
	{
		case WINNOW_SIMD_SCALAR:
			return &winnow_kernels_scalar;
		case WINNOW_SIMD_NEON:
#ifdef WINNOW_HAVE_NEON
			return &winnow_kernels_neon;	/* part of every aarch64 */
#else
			return NULL;
#endif
#ifdef WINNOW_HAVE_X86
		case WINNOW_SIMD_AVX2:
			return avx2 ? &winnow_kernels_avx2 : NULL;
		case WINNOW_SIMD_AVX512:
			return avx512 ? &winnow_kernels_avx512 : NULL;
		case WINNOW_SIMD_AVX512_VPOPCNT:
			return avx512 && __builtin_cpu_supports("avx512vpopcntdq") ?
					   &winnow_kernels_avx512_vpopcnt :
					   NULL;
#else
		case WINNOW_SIMD_AVX2:
		case WINNOW_SIMD_AVX512:
		case WINNOW_SIMD_AVX512_VPOPCNT:
			return NULL;
#endif
	}
	return NULL;
}

/* The best level not above `highest`. */
static const WinnowKernels *
best_below(WinnowSimd highest)
{
	for (int level = highest; level > WINNOW_SIMD_SCALAR; level--)
	{
		const WinnowKernels *kernels = winnow_kernels_at((WinnowSimd) level);

		if (kernels != NULL)
			return kernels;
	}
	return &winnow_kernels_scalar;
}

const WinnowKernels *
winnow_kernels_best(void)
{
	return best_below(WINNOW_SIMD_AVX512_VPOPCNT);
}

bool
winnow_kernels_use(WinnowSimd highest)
{
	winnow_kernels = best_below(highest);
	return winnow_kernels->level == highest;
}

__attribute__((constructor)) void
winnow_kernels_init(void)
{
	winnow_kernels = winnow_kernels_best();
}
