/*
 * owner.c
 *		Whose rights index expressions run with.
 */
#include "postgres.h"

#include "owner.h"

#include "miscadmin.h"
#include "utils/guc.h"

/*
 * From here on index expressions are run as the table's owner would, since it is he
 * who wrote them, as REINDEX does.  An error undoes it too.
 */
void
winnow_become_owner(Relation heap, WinnowUser *user)
{
	GetUserIdAndSecContext(&user->id, &user->security);
	SetUserIdAndSecContext(heap->rd_rel->relowner,
						   user->security | SECURITY_RESTRICTED_OPERATION);
	user->nestlevel = NewGUCNestLevel();
	RestrictSearchPath();
}

void
winnow_become_user(const WinnowUser *user)
{
	AtEOXact_GUC(false, user->nestlevel);
	SetUserIdAndSecContext(user->id, user->security);
}
