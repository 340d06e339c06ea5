/* The order of a migration: one page goes from memory element 0 to element 1 and back, while its owner keeps writing to it.
 *
 *   (1) durable intent  (2) the source takes the page from everybody (PT_CLEAR, in band, behind what is queued)  (3) it copies it
 *   to the target, which gives it to its owner when it has come, and answers  (4) durable: it is there now  (5) the switch sends
 *   accesses there. Until (4) the controller may give up (an element is silent, or only slow): the page goes back to its owner at
 *   the source, and is taken from whoever has it at the target.
 *
 * Writes come to the switch at any time; its queue to each element is a FIFO. Copies between elements may be late, lost, and come
 * twice (`flying`). Messages and acknowledgements may be lost; the controller repeats what is not acknowledged. It may crash between any two steps and begins again from what it wrote down.
 *
 * S3         every write finds the contents that the last one left (the assertion), and nothing is lost of them in the end.
 * agreement  when nothing is under way, the element that the switch sends to has the page, its contents, and a generation that
 *            lets the owner pass.
 *
 * With a step left out it must fail: -DNO_INTENT -DNO_TAKE -DUNTAKEN_COPIES -DNO_WAIT -DNO_NEWS -DNO_RETURN.
 */

#ifndef END
#define END true
#endif
#define MIGRATIONS 2
#define WRITES 2
#define other(e) (1 - (e))

mtype = { Write, Take, Give, Copy, Receive };

chan queue0 = [3] of { mtype, byte, byte };      /* from the switch: kind; value or generation; stamp or generation of the copy */
chan queue1 = [3] of { mtype, byte, byte };
chan flying = [1] of { byte, byte, byte };       /* to which element, generation that it is to have there, contents */
chan acks = [2] of { byte };

byte crashes = 1, duplicates = 1, losses = 1, patience = 1;
byte at = 0, stamp = 1;                          /* the switch */
bool mine[2];                                    /* the elements: whether the owner has the page there, */
byte gen[2], held[2], expects[2];                /* its generation, contents, and the copy that is waited for */
byte newest = 0;                                 /* what the last write left */
byte where = 0, generation = 1, given = 1, done = 0;  /* the controller's store: what the switch is to say; counters */
byte phase = 3;                                  /* 1: copying, 2: returning; 3: before the start */
byte taken, arrival;

proctype Switch()
{
    byte left = WRITES;                          /* how late a write comes is when it comes: any order with all else */
    do
    :: atomic { left > 0 && at == 0 && nfull(queue0) -> queue0!Write, left, stamp; left-- }
    :: atomic { left > 0 && at == 1 && nfull(queue1) -> queue1!Write, left, stamp; left-- }
    :: left == 0 -> break
    od
}

#define acknowledge(g) if :: nfull(acks) -> acks!g :: losses > 0 -> losses-- fi

proctype Element(bool me; chan queue)
{
    mtype kind;
    byte first, second;
end:
    do
    :: atomic {
        queue?kind, first, second;
        if
        :: kind == Write ->
            if
            :: mine[me] && gen[me] <= second ->
                assert(held[me] == newest);                                     /* S3 */
                held[me] = first;
                newest = first
            :: else                                                             /* refused: its owner repeats it */
            fi
        :: kind == Take ->
            if :: first > gen[me] -> mine[me] = false; gen[me] = first :: else fi;
            acknowledge(first)
        :: kind == Give ->
            if :: first > gen[me] -> mine[me] = true; gen[me] = first :: else fi;
            acknowledge(first)
        :: kind == Copy ->
            if
#if defined(UNTAKEN_COPIES) || defined(NO_TAKE)
            :: len(flying) == 0 -> flying!other(me), second, held[me]
#else
            :: !mine[me] && gen[me] == first && len(flying) == 0 -> flying!other(me), second, held[me]
#endif
            :: else
            fi
        :: kind == Receive ->
            if
            :: gen[me] >= first -> acknowledge(first)
            :: else -> expects[me] = first
            fi
        fi;
        kind = 0; first = 0; second = 0
    }
    :: atomic {
        flying??[eval(me), _, _] ->
        if
        :: flying??eval(me), first, second
        :: duplicates > 0 -> duplicates--; flying??<eval(me), first, second>
        fi;
        if
#ifdef NO_NEWS
        :: expects[me] == first ->                                              /* whatever has been said of the page since */
#else
        :: expects[me] == first && gen[me] < first ->
#endif
            held[me] = second;
            if :: gen[me] < first -> gen[me] = first; mine[me] = true :: else fi;
            acknowledge(first)
        :: else
        fi;
        first = 0; second = 0
    }
    od
}

#define may_crash if :: crashes > 0 -> crashes--; goto restart :: skip fi
#define to_source(kind, a, b) if :: where == 0 && nfull(queue0) -> queue0!kind, a, b :: where == 1 && nfull(queue1) -> queue1!kind, a, b :: losses > 0 -> losses-- fi
#define to_target(kind, a, b) if :: where == 1 && nfull(queue0) -> queue0!kind, a, b :: where == 0 && nfull(queue1) -> queue1!kind, a, b :: losses > 0 -> losses-- fi
#define quiet (len(queue0) == 0 && len(queue1) == 0 && len(acks) == 0)

proctype Controller()
{
    byte ack;
    bool one, two;
restart:
#ifdef NO_INTENT
    phase = 0;
#endif
    skip;
    d_step { at = where; stamp = generation };                                  /* makes the switch what the store says */
    do
    :: done == MIGRATIONS && phase == 0 -> break
    :: done < MIGRATIONS || phase != 0 ->
        one = false; two = false;
        if
        :: phase == 0 -> d_step { taken = given + 1; arrival = given + 2; given = arrival; phase = 1; done++ }  /* (1) */
        :: phase == 1 ->
#ifdef NO_TAKE
            one = true;
#endif
            do
            :: one && two -> break
#ifdef NO_WAIT
            :: one -> break
#endif
            :: !(one && two) && nempty(acks) ->
                atomic { acks?ack; if :: ack == taken -> one = true :: ack == arrival -> two = true :: else fi; ack = 0 }
            :: !(one && two) && quiet && len(flying) == 0 ->                    /* (2), (3); and again: no acknowledgement came */
                atomic {
                    to_target(Receive, arrival, 0);
#ifndef NO_TAKE
                    to_source(Take, taken, 0);
#endif
                    to_source(Copy, taken, arrival)
                }
            :: patience > 0 -> d_step { patience--; taken = given + 1; arrival = given + 2; given = arrival; phase = 2 }; break
            od;
            may_crash;
            if
            :: phase == 1 ->
                d_step { where = other(where); generation = arrival; phase = 0 };                               /* (4) */
                may_crash;
                d_step { at = where; stamp = generation }                                                       /* (5) */
            :: else
            fi
        :: phase == 2 ->
#ifndef NO_RETURN
            do
            :: one && two -> break
            :: !(one && two) && nempty(acks) ->
                atomic { acks?ack; if :: ack == taken -> one = true :: ack == arrival -> two = true :: else fi; ack = 0 }
            :: !(one && two) && quiet ->
                atomic { to_target(Take, taken, 0); to_source(Give, arrival, 0) }
            od;
#endif
            may_crash;
            d_step { generation = arrival; phase = 0 };
            may_crash;
            d_step { at = where; stamp = generation }
        fi;
        may_crash
    od;
    assert(END)                             /* -DEND=false: shows that the end is reached at all */
}

init
{
    atomic {
        mine[0] = true;
        gen[0] = 1;
        phase = 0;
        run Switch();
        run Element(0, queue0);
        run Element(1, queue1);
        run Controller()
    }
}

#define idle (phase == 0 && at == where && stamp == generation && len(queue0) == 0 && len(queue1) == 0)
#define agreed (mine[where] && gen[where] <= stamp && held[where] == newest)

ltl safe { [] (idle -> agreed) }
