/*
 * am.c
 *		The handler of the access method, and what the library does when loaded.
 */
#include "postgres.h"

#include "winnow.h"

#include "access/amapi.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "kernels/kernels.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	winnow_kernels_init();
	winnow_options_init();
	winnow_limit_init();
	winnow_plan_init();
	winnow_explain_init();
}

PG_FUNCTION_INFO_V1(winnow_handler);
Datum
winnow_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	am->amstrategies = 0;		/* the operator classes say */
	am->amsupport = WINNOW_NPROCS;
	am->amcanorderbyop = true;
	am->amcanmulticol = true;
	am->amoptionalkey = true;
	am->amsearcharray = true;
	am->amsearchnulls = true;
	am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
	am->amkeytype = InvalidOid;
	WINNOW_BUILD_PARALLEL(am);

	am->ambuild = winnow_build;
	am->ambuildempty = winnow_build_empty;
	am->aminsert = winnow_insert;
	am->ambulkdelete = winnow_bulkdelete;
	am->amvacuumcleanup = winnow_vacuumcleanup;
	am->amcostestimate = winnow_costestimate;
	am->amoptions = winnow_options;
	am->ambuildphasename = winnow_build_phase;
	am->amvalidate = winnow_validate;
	am->ambeginscan = winnow_beginscan;
	am->amrescan = winnow_rescan;
	am->amgettuple = winnow_gettuple;
	am->amendscan = winnow_endscan;
	PG_RETURN_POINTER(am);
}

/* Support function 1 of the vector operator classes: which metric */
PG_FUNCTION_INFO_V1(winnow_metric_l2);
Datum
winnow_metric_l2(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(WINNOW_METRIC_L2);
}

PG_FUNCTION_INFO_V1(winnow_metric_ip);
Datum
winnow_metric_ip(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(WINNOW_METRIC_IP);
}

PG_FUNCTION_INFO_V1(winnow_metric_cosine);
Datum
winnow_metric_cosine(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(WINNOW_METRIC_COSINE);
}
