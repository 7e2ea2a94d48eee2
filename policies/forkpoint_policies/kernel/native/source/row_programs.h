// All that a row's program does, for any number of threads.
#pragma once

#include "automata.h"
#include "advance.h"
#include "actions/acting.h"
#include "actions/truncate.h"
#include "sampling_limits.h"
#include "conditions.h"
#include "actions/token_sets.h"
#include "actions/temperature.h"
#include "actions/placebo.h"
#include "actions/force.h"
#include "act.h"
#include "rows.h"
