package redis

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// cluster is one of two nodes, each with half of the slots. One that finds the other failed,
// as it does after a time, has no majority and refuses: that time is longer than a test.
type cluster struct {
	nodes  [2]*testbed.Redis
	direct [2]rueidis.Client
}

func startTwoNodes(t *testing.T, args ...string) *cluster {
	t.Helper()
	c := &cluster{}
	for i := range c.nodes {
		c.nodes[i] = testbed.StartRedis(t, append([]string{"--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "30000"}, args...)...)
		c.direct[i] = connect(t, c.nodes[i])
		c.run(t, i, "CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*8192), fmt.Sprint(i*8192+8191))
	}
	host, port, _ := net.SplitHostPort(c.nodes[1].Addr)
	bus, err := c.direct[1].Do(t.Context(), c.direct[1].B().ConfigGet().Parameter("cluster-port").Build()).AsStrMap()
	if err != nil {
		t.Fatal(err)
	}
	c.run(t, 0, "CLUSTER", "MEET", host, port, bus["cluster-port"])
	for i := range c.nodes {
		eventually(t, "the cluster is not well", func() bool {
			info := c.run(t, i, "CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384")
		})
	}
	return c
}

// run runs a command on one node.
func (c *cluster) run(t *testing.T, node int, args ...string) string {
	t.Helper()
	result := c.direct[node].Do(t.Context(), c.direct[node].B().Arbitrary(args...).Build())
	if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		t.Fatal(args, err)
	}
	s, err := result.ToString()
	if err != nil {
		n, _ := result.AsInt64()
		return fmt.Sprint(n)
	}
	return s
}

// id returns the id of a completion that a node has, which is another one than some.
func (c *cluster) id(t *testing.T, j *Journal, node int, but ...string) string {
	t.Helper()
	for i := 0; ; i++ {
		if id := fmt.Sprint("c", i); c.nodeOf(t, j.hashKey(id)) == node && !slices.Contains(but, id) {
			return id
		}
	}
}

// key returns an idempotency key that a node has.
func (c *cluster) key(t *testing.T, j *Journal, node int) string {
	t.Helper()
	for i := 0; ; i++ {
		if key := fmt.Sprint("k", i); c.nodeOf(t, j.claimKey("", key)) == node {
			return key
		}
	}
}

// nodeOf returns which node has a key.
func (c *cluster) nodeOf(t *testing.T, key string) int {
	t.Helper()
	var slot int
	if _, err := fmt.Sscan(c.run(t, 0, "CLUSTER", "KEYSLOT", key), &slot); err != nil {
		t.Fatal(err)
	}
	return slot / 8192
}

// TestShardIsGone has one shard of a cluster go, and come back empty, or with an older copy
// of what it had: what the other one has goes on as ever, what that one has, in its owner's
// memory, and it is written again. Nobody is lost, wherever the leases are.
func TestShardIsGone(t *testing.T) {
	t.Run("empty, with the lease", func(t *testing.T) { t.Parallel(); shardIsGone(t, false, 1) })
	t.Run("older, without the lease", func(t *testing.T) { t.Parallel(); shardIsGone(t, true, 0) })
}

func shardIsGone(t *testing.T, older bool, lease int) {
	c := startTwoNodes(t)
	config := Config{Patience: 800 * time.Millisecond, Lease: 2 * time.Second}
	a, b := open(t, c.nodes[0], config), open(t, c.nodes[0], config)
	for c.nodeOf(t, a.leaseKey(a.instance)) != lease {
		a = open(t, c.nodes[0], config)
	}
	ids := [2]string{c.id(t, a, 0), c.id(t, a, 1)}
	var writers [2]journal.Writer
	for i, id := range ids {
		writers[i], _ = create(t, a, id)
		add(t, writers[i], 1, 3)
	}
	if older {
		c.run(t, 1, "SAVE")
	}
	for _, w := range writers {
		add(t, w, 4, 5)
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		if e, err := follow(soon(t), a, ids[1], 0); err != nil || e.Sequence != 41 {
			t.Errorf("at the owner: ends with %d, %v", e.Sequence, err)
		}
	})
	for _, id := range ids {
		readers.Go(func() {
			if e, err := followSoon(t, b, id); err != nil || e.Sequence != 41 {
				t.Errorf("from before, elsewhere: ends with %d, %v", e.Sequence, err)
			}
		})
	}
	c.nodes[1].Kill()
	began := time.Now()
	add(t, writers[1], 6, 6)
	took := time.Since(began)
	if most := 10 * config.Patience; took > most {
		t.Errorf("the owner waits for %v", took)
	}
	for sequence := int32(7); sequence <= 40; sequence++ { // without waiting any more
		add(t, writers[1], sequence, sequence)
	}
	if !a.Available() || !writers[1].(*writer).behind {
		t.Error("all of the store counts as gone, or the part that has gone does not")
	}
	var w journal.Writer
	var err error
	eventually(t, "there is no new one, with a key", func() bool { // as soon as no connection breaks
		w, _, err = a.Create(t.Context(), journal.Completion{ID: c.id(t, a, 0, ids[0]), Key: c.key(t, a, 0)}, &owner{})
		return w != nil && err == nil
	})
	end(t, w, 1)
	readers.Go(func() {
		if e, err := followSoon(t, b, ids[0]); err != nil || e.Sequence != 41 {
			t.Errorf("what the other shard has ends elsewhere with %d, %v", e.Sequence, err)
		}
	})
	for sequence := int32(6); sequence <= 40; sequence++ {
		add(t, writers[0], sequence, sequence)
	}
	end(t, writers[0], 41)
	c.nodes[1].Start()
	end(t, writers[1], 41)
	readers.Go(func() {
		if e, err := followSoon(t, b, ids[1]); err != nil || e.Sequence != 41 || e.Kind != journal.Finished {
			t.Errorf("what the lost shard had ends elsewhere with %d, %v", e.Sequence, err)
		}
	})
	readers.Wait()
}

// TestSlotMoves has the slot of a completion move to another node while it is written and
// followed, by a user who has the rights that docs/instances.md names.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	c := startTwoNodes(t)
	rights := append([]string{"ACL", "SETUSER", "sluice", "on", ">secret"}, strings.Fields(rightsInDocs(t))...)
	for i := range c.nodes {
		c.run(t, i, rights...)
	}
	url := &testbed.Redis{URL: "redis://sluice:secret@" + c.nodes[0].Addr}
	a, b := open(t, url, Config{}), open(t, url, Config{})
	id := c.id(t, a, 0)
	w, _ := create(t, a, id)
	add(t, w, 1, 5)
	var readers sync.WaitGroup
	defer readers.Wait()
	readers.Go(func() {
		if e, err := follow(soon(t), b, id, 0); err != nil || e.Kind != journal.Finished {
			t.Errorf("ends with %d, %d, %v", e.Sequence, e.Kind, err)
		}
	})
	slot := c.run(t, 0, "CLUSTER", "KEYSLOT", a.hashKey(id))
	nodes := [2]string{c.run(t, 0, "CLUSTER", "MYID"), c.run(t, 1, "CLUSTER", "MYID")}
	sequence := int32(6)
	step := func(node int, args ...string) {
		c.run(t, node, args...)
		for range 5 {
			add(t, w, sequence, sequence)
			sequence++
		}
		if _, err := b.Get(t.Context(), id); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	host, port, _ := net.SplitHostPort(c.nodes[1].Addr)
	step(1, "CLUSTER", "SETSLOT", slot, "IMPORTING", nodes[0])
	step(0, "CLUSTER", "SETSLOT", slot, "MIGRATING", nodes[1])
	step(0, "MIGRATE", host, port, "", "0", "5000", "KEYS", a.hashKey(id), a.streamKey(id))
	step(1, "CLUSTER", "SETSLOT", slot, "NODE", nodes[1])
	step(0, "CLUSTER", "SETSLOT", slot, "NODE", nodes[1])
	end(t, w, sequence)
}

// TestShardIsStartedAgain has the shard of a cluster be started again, empty, that nobody
// asks anything just then: its owner writes again what it had, and nobody is told that there
// is no such completion, or gets its key.
func TestShardIsStartedAgain(t *testing.T) {
	t.Parallel()
	c := startTwoNodes(t)
	config := Config{Lease: 4 * time.Second}
	a, b := open(t, c.nodes[0], config), open(t, c.nodes[0], config)
	for c.nodeOf(t, a.leaseKey(a.instance)) != 0 {
		a = open(t, c.nodes[0], config)
	}
	for c.nodeOf(t, b.leaseKey(b.instance)) != 0 {
		b = open(t, c.nodes[0], config)
	}
	id, key := c.id(t, a, 1), c.key(t, a, 1)
	w, _, err := a.Create(t.Context(), journal.Completion{ID: id, Key: key}, &owner{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, 1, 3)
	if _, err := b.Get(t.Context(), id); err != nil { // it has a connection, too
		t.Fatal(err)
	}
	c.nodes[1].Kill()
	c.nodes[1].Start()
	c.direct[1] = connect(t, c.nodes[1])
	if _, err := b.Get(t.Context(), id); errors.Is(err, journal.ErrNotFound) {
		t.Errorf("it is unknown: %v", err)
	}
	eventually(t, "its owner does not write it again", func() bool {
		at, err := b.Get(t.Context(), id)
		return err == nil && at.Last == 3
	})
	eventually(t, "its owner does not claim its key again", func() bool {
		holder, err := b.holder(t.Context(), "", key)
		return err == nil && holder == id
	})
	end(t, w, 4)
}

// TestKeyOfALostShard has the shard be started again, empty, that has a completion, or its
// key: nobody gets that before the owner has had the time to write again what was lost.
func TestKeyOfALostShard(t *testing.T) {
	t.Run("without its key", func(t *testing.T) { t.Parallel(); keyOfALostShard(t, 1, 0) })
	t.Run("with its key", func(t *testing.T) { t.Parallel(); keyOfALostShard(t, 1, 1) })
	t.Run("only its key", func(t *testing.T) { t.Parallel(); keyOfALostShard(t, 0, 1) })
}

func keyOfALostShard(t *testing.T, completion, claim int) {
	c := startTwoNodes(t)
	config := Config{Lease: 8 * time.Second}
	a, b := open(t, c.nodes[0], config), open(t, c.nodes[0], config)
	for c.nodeOf(t, b.leaseKey(b.instance)) != 0 { // that shows nothing
		b = open(t, c.nodes[0], config)
	}
	id, key := c.id(t, a, completion), c.key(t, a, claim)
	w, _, err := a.Create(t.Context(), journal.Completion{ID: id, Key: key}, &owner{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, 1, 3)
	if info, err := b.Find(t.Context(), "", key); err != nil || info.ID != id { // it has a connection, too
		t.Fatal(info, err)
	}
	c.nodes[1].Kill()
	c.nodes[1].Start()
	second := c.id(t, a, 0, id)
	for range 100 {
		other, holder, err := b.Create(t.Context(), journal.Completion{ID: second, Key: key}, &owner{})
		switch {
		case other != nil:
			t.Fatal("there are two for one key")
		case err == nil && holder.ID == id:
			end(t, w, 4)
			return
		case err == nil:
			t.Fatalf("the key stands for %+v", holder)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("it is never found")
}

// TestNewsWhileANodeIsGone has one node of a cluster go, or not answer, whichever it is: what
// the other one has is told to owners as ever, and its readers do not count as gone.
func TestNewsWhileANodeIsGone(t *testing.T) {
	for gone := range 2 {
		for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
			t.Run(fmt.Sprint("node ", gone, " is ", name), func(t *testing.T) { t.Parallel(); newsWhileANodeIsGone(t, gone, signal) })
		}
	}
}

func newsWhileANodeIsGone(t *testing.T, gone int, signal syscall.Signal) {
	c := startTwoNodes(t)
	config := Config{Patience: 400 * time.Millisecond, Lease: 2 * time.Second}
	var journals [2]*Journal
	for i := range journals {
		for j := open(t, c.nodes[0], config); journals[i] == nil; j = open(t, c.nodes[0], config) {
			if c.nodeOf(t, j.leaseKey(j.instance)) != gone { // where it hears
				journals[i] = j
			}
		}
	}
	a, b := journals[0], journals[1]
	id := c.id(t, a, 1-gone)
	w, o := create(t, a, id)
	add(t, w, 1, 1)
	followElsewhere(t, b, id, o)
	c.nodes[gone].Signal(signal)
	if signal == syscall.SIGSTOP {
		defer c.nodes[gone].Signal(syscall.SIGCONT)
	}
	for until := time.Now().Add(4 * config.Lease); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if o.readers.Load() != 1 {
			t.Fatal("the reader is gone")
		}
	}
	if err := b.Cancel(t.Context(), id); err != nil {
		t.Error(err)
	}
	eventually(t, "a cancel is not told", func() bool { return o.cancels.Load() > 0 })
	end(t, w, 2)
}
