/* The order of a reassignment: one page goes from process 1 to process 2 and back, while both keep writing to it.
 *
 *   (1) durable intent  (2) withdraw the old owner's entry, (3) enter the new owner  (4) page-table change in band, behind what is
 *   queued; wait for its acknowledgement  (5) tell those concerned  (6) mark done, acknowledge
 *
 * (2) and (3) are one call of the switch, which may carry it out update by update, with frames between. The new owner tries its
 * luck before it is told, and may pass the switch when its element does not know it yet.
 *
 * Frames before the switch may be delayed, reordered and duplicated (`network` is a bag); the switch's queue to the memory element
 * is a FIFO; page-table changes and their acknowledgements may be lost or come twice. The controller may crash between any two
 * steps; it begins again from what it wrote down. The switch stamps a write with the generation of the entry that it passed.
 *
 * S1         at no time do two processes pass the switch for write.
 * S2         once a reassignment is acknowledged, no write of an earlier owner takes effect.
 * agreement  when nothing is under way, switch and element agree on the owner and the generation.
 *
 * -DNO_SWITCH_CHECK and -DNO_ELEMENT_CHECK leave one enforcement out: the other alone keeps S2 (rule S4).
 * With a step left out it must fail: -DNO_INTENT -DNO_WITHDRAW -DNO_PAGE_TABLE -DNO_WAIT -DENTER_EARLY -DNO_ENTRY; with the page
 * table before the switch -DPAGE_TABLE_FIRST -DNO_ELEMENT_CHECK.
 */

#ifndef END
#define END true
#endif
#define REASSIGNMENTS 2
#define WRITES 2                        /* of each process */
#define other(p) (3 - (p))

mtype = { Write, PageTable };

chan network = [4] of { byte };             /* the pid of a write, before the switch */
chan queue = [4] of { mtype, byte, byte };  /* kind, pid, generation: switch to element, in order */
chan acks = [2] of { byte };                /* generation: element to controller */

byte duplicates = 1, losses = 1, crashes = 1;

byte entry[3];                              /* the switch: generation of each process's entry, 0 for none */
byte owner = 1, generation = 1;             /* the memory element's page table */
byte given = 1, done = 0;                   /* the controller's store: last generation given out, reassignments finished */
bool intent = false;
byte promised = 1;                          /* the owner that the world was told of */
bool moving = true;                         /* from intent to acknowledgement (and before the start) either may write */

proctype Process(byte who)
{
    byte left = WRITES;
    do
    :: left > 0 -> atomic { nfull(network) -> network!who; left-- }
    :: left == 0 -> break
    od
}

proctype Switch()
{
    byte who;
end:
    do
    :: atomic {
        nfull(queue) && len(network) > 0;   /* what passes is in the queue at once: nothing comes between */
        if  /* any frame of the bag; one that stays there too is a duplicate */
        :: network??1 -> who = 1
        :: network??2 -> who = 2
        :: network??[1] && duplicates > 0 -> duplicates--; who = 1
        :: network??[2] && duplicates > 0 -> duplicates--; who = 2
        fi;
        if
        :: entry[who] != 0 -> queue!Write, who, entry[who]
#ifdef NO_SWITCH_CHECK
        :: entry[who] == 0 -> queue!Write, who, given   /* at worst it has the right generation */
#else
        :: entry[who] == 0 -> skip                      /* a typed refusal */
#endif
        fi;
        who = 0
    }
    od
}

proctype Element()
{
    mtype kind;
    byte who, stamp;
end:
    do
    :: atomic {
        queue?kind, who, stamp;
        if
        :: kind == PageTable ->
            if
            :: stamp > generation -> owner = who; generation = stamp
            :: else                                     /* a repetition, or overtaken */
            fi;
            if
            :: nfull(acks) -> acks!stamp
            :: losses > 0 -> losses--
            fi
        :: kind == Write ->
            if
#ifdef NO_ELEMENT_CHECK
            :: true ->
#else
            :: owner == who && generation <= stamp ->
#endif
                assert(moving || who == promised)       /* S2 */
            :: else
            fi
        fi;
        kind = 0; who = 0; stamp = 0
    }
    od
}

#define may_crash if :: crashes > 0 -> crashes--; goto restart :: skip fi

#ifdef NO_WITHDRAW
#define withdraw skip
#else
#define withdraw entry[other(to)] = 0
#endif
#ifdef NO_ENTRY
#define enter skip
#else
#define enter entry[to] = given
#endif
#define change_switch withdraw; may_crash; enter; may_crash

proctype Controller()
{
    byte to, ack;
restart:
#ifdef NO_INTENT
    /* it knows only of what was finished, and makes the switch so */
    skip;
    d_step { given = done + 1; entry[promised] = given; entry[other(promised)] = 0; intent = false; moving = false };
    if :: done < REASSIGNMENTS :: goto finished fi;     /* nobody need ask for the same again */
#endif
    do
    :: done == REASSIGNMENTS -> break
    :: done < REASSIGNMENTS ->
        to = (done % 2 == 0 -> 2 : 1);
        if
        :: !intent -> d_step { intent = true; moving = true; given++ }          /* (1) */
        :: intent
        fi;
        may_crash;
#ifdef ENTER_EARLY
        entry[to] = given;
        may_crash;
#endif
#ifndef PAGE_TABLE_FIRST
        change_switch;                                                          /* (2), (3) */
#endif
#ifndef NO_PAGE_TABLE
        ack = 0;                                                                /* (4) */
#ifdef NO_WAIT
        queue!PageTable, to, given;
#else
        do
        :: ack == given -> break
        :: ack != given && nempty(acks) -> acks?ack
        :: ack != given && empty(acks) && !(queue??[PageTable, 1, 2] || queue??[PageTable, 2, 2] ||
                                           queue??[PageTable, 1, 3] || queue??[PageTable, 2, 3]) ->
            atomic {
                if  /* sent, or sent again since no acknowledgement came */
                :: queue!PageTable, to, given
                :: losses > 0 -> losses--
                fi
            }
        od;
#endif
        may_crash;
#endif
#ifdef PAGE_TABLE_FIRST
        change_switch;
#endif
        d_step { done++; intent = false; promised = to; moving = false }        /* (5), (6) */
    od;
finished:
    assert(END)                             /* -DEND=false: shows that the end is reached at all */
}

init
{
    atomic {
        entry[1] = 1;
        moving = false;
        run Process(1);
        run Process(2);
        run Switch();
        run Element();
        run Controller()
    }
}

#define S1 (entry[1] == 0 || entry[2] == 0)
#define agreed (entry[promised] == generation && owner == promised)

#define idle (!moving && len(queue) == 0)

ltl safe { [] (S1 && (idle -> agreed)) }
