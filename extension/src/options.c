/*
 * options.c
 *		Settings and storage parameters.
 */
#include "postgres.h"

#include "winnow.h"

#include "kernels/kernels.h"
#include "utils/builtins.h"
#include "utils/guc.h"

double		winnow_recall = 0.95;

static int	simd_level;
static relopt_kind option_kind;

static const struct config_enum_entry simd_entries[] = {
	{"scalar", WINNOW_SIMD_SCALAR, false},
	{"neon", WINNOW_SIMD_NEON, false},
	{"avx2", WINNOW_SIMD_AVX2, false},
	{"avx512", WINNOW_SIMD_AVX512, false},
	{"avx512_vpopcnt", WINNOW_SIMD_AVX512_VPOPCNT, false},
	{NULL, 0, false}
};

static void
assign_simd(int level, void *extra)
{
	winnow_kernels_use((WinnowSimd) level);
}

void
winnow_options_init(void)
{
	DefineCustomRealVariable("winnow.recall",
							 "Share of the exact answer that a winnow index scan aims to find.",
							 "1 asks for the exact answer.",
							 &winnow_recall, 0.95, 0.01, 1.0,
							 PGC_USERSET, GUC_EXPLAIN, NULL, NULL, NULL);
	DefineCustomEnumVariable("winnow.simd",
							 "Highest instruction set that winnow uses.",
							 "The best one that the CPU supports and that is not above this is taken.",
							 &simd_level, WINNOW_SIMD_AVX512_VPOPCNT, simd_entries,
							 PGC_USERSET, 0, NULL, assign_simd, NULL);
	winnow_wait_init();
	MarkGUCPrefixReserved("winnow");

	option_kind = add_reloption_kind();
	add_int_reloption(option_kind, "list_size",
					  "Number of rows that a build puts into a list at most",
					  WINNOW_UNSET, WINNOW_MIN_LIST_SIZE, WINNOW_MAX_LIST_SIZE,
					  AccessExclusiveLock);
	add_int_reloption(option_kind, "bits",
					  "Bits per dimension that the index keeps of a vector",
					  WINNOW_UNSET, WINNOW_MIN_BITS, WINNOW_MAX_REFINEMENT_BITS,
					  AccessExclusiveLock);
}

/* amoptions */
bytea *
winnow_options(Datum reloptions, bool validate)
{
	static const relopt_parse_elt table[] = {
		{.optname = "list_size", .opttype = RELOPT_TYPE_INT, .offset = offsetof(WinnowOptions, list_size)},
		{.optname = "bits", .opttype = RELOPT_TYPE_INT, .offset = offsetof(WinnowOptions, bits)},
	};

	return (bytea *) build_reloptions(reloptions, validate, option_kind,
									  sizeof(WinnowOptions), table, lengthof(table));
}

/* winnow_simd(): the instruction set in use */
PG_FUNCTION_INFO_V1(winnow_simd);
Datum
winnow_simd(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(winnow_kernels->name));
}
