package redis

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// address is one that stands for the store, and can be moved to another, as sentinels do.
type address struct {
	net.Listener

	mu     sync.Mutex // guards all below
	target string
	conns  []net.Conn
}

func newAddress(t *testing.T, target string) *address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &address{Listener: l, target: target}
	t.Cleanup(func() { l.Close(); a.move("") })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			there, err := net.Dial("tcp", a.target)
			if err != nil {
				c.Close()
				a.mu.Unlock()
				continue
			}
			a.conns = append(a.conns, c, there)
			a.mu.Unlock()
			go func() { _, _ = io.Copy(there, c); there.Close() }()
			go func() { _, _ = io.Copy(c, there); c.Close() }()
		}
	}()
	return a
}

// move breaks all connections; new ones are to another target.
func (a *address) move(target string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.target = target
	for _, c := range a.conns {
		c.Close()
	}
	a.conns = nil
}

// TestFailover has the store fail over to a replica that lags: what its primary had
// acknowledged last is lost. Owners that live write it again; of what had ended, nobody
// takes a part for the whole, and nobody waits for ever.
func TestFailover(t *testing.T) {
	primary, replica := testbed.StartRedis(t), testbed.StartRedis(t)
	node := connect(t, replica)
	link := newAddress(t, primary.Addr) // by which the replica follows
	host, port, _ := strings.Cut(link.Addr().String(), ":")
	number, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Do(t.Context(), node.B().Replicaof().Host(host).Port(number).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	where := newAddress(t, primary.Addr)
	through := &testbed.Redis{URL: "redis://" + where.Addr().String()}
	config := Config{Lease: 2 * time.Second}
	a, b := open(t, through, config), open(t, through, config)
	running, _ := create(t, a, "running")
	ended, _ := create(t, a, "ended")
	add(t, running, 1, 10)
	add(t, ended, 1, 10)
	eventually(t, "the replica does not follow", func() bool {
		last, err := node.Do(t.Context(), node.B().Hget().Key(a.hashKey("ended")).Field("last").Build()).ToString()
		return err == nil && last == "10"
	})
	link.Close()
	link.move("")
	add(t, running, 11, 20)
	add(t, ended, 11, 20)
	end(t, ended, 21)
	primary.Kill()
	if err := node.Do(t.Context(), node.B().Replicaof().No().One().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	where.move(replica.Addr)

	var readers sync.WaitGroup
	for _, j := range []*Journal{a, b} {
		readers.Go(func() {
			e, err := followSoon(t, j, "running")
			if err != nil || e.Sequence != 31 || e.Kind != journal.Finished {
				t.Errorf("what runs ends with %d, %d, %v", e.Sequence, e.Kind, err)
			}
		})
	}
	readers.Go(func() {
		if e, err := followSoon(t, b, "ended"); err != nil || e.Sequence != 11 || e.Kind != journal.Failed {
			t.Errorf("what had ended ends elsewhere with %d, %d, %v", e.Sequence, e.Kind, err)
		}
	})
	add(t, running, 21, 30)
	end(t, running, 31)
	readers.Wait()
}

// followSoon follows a completion as soon as it can be.
func followSoon(t *testing.T, j *Journal, id string) (e journal.Entry, err error) {
	for ctx := soon(t); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if e, err = follow(context.WithoutCancel(ctx), j, id, 0); err == nil {
			return e, nil
		}
	}
	return e, err
}

// TestSentinel has a sentinel have another store take the place of the one that is used,
// while completions run, and then the first one die.
func TestSentinel(t *testing.T) {
	t.Parallel()
	primary := testbed.StartRedis(t)
	host, port, _ := strings.Cut(primary.Addr, ":")
	replica := testbed.StartRedis(t, "--replicaof", host+" "+port)
	node := connect(t, replica)
	eventually(t, "the replica does not follow", func() bool {
		role, err := node.Do(t.Context(), node.B().Role().Build()).ToArray()
		if err != nil || len(role) < 4 {
			return false
		}
		state, _ := role[3].ToString()
		return state == "connected"
	})
	sentinel := testbed.StartSentinel(t, primary)
	a, b := open(t, sentinel, Config{}), open(t, sentinel, Config{})
	var readers sync.WaitGroup
	defer readers.Wait()
	var writers []journal.Writer
	const last = 200
	for i := range 10 {
		id := fmt.Sprint("c", i)
		w, _ := create(t, a, id)
		add(t, w, 1, 10)
		writers = append(writers, w)
		for _, j := range []*Journal{a, b} {
			readers.Go(func() {
				if e, err := follow(soon(t), j, id, 0); err != nil || e.Sequence != last+1 || e.Kind != journal.Finished {
					t.Errorf("%s ends with %d, %d, %v", id, e.Sequence, e.Kind, err)
				}
			})
		}
	}
	control := connect(t, sentinel)
	eventually(t, "there is no failover", func() bool { // as soon as the sentinel knows the replica
		return control.Do(t.Context(), control.B().Arbitrary("SENTINEL", "FAILOVER", "primary").Build()).Error() == nil
	})
	sequence := int32(11)
	eventually(t, "the replica is not the primary", func() bool {
		if sequence < last {
			for _, w := range writers {
				add(t, w, sequence, sequence)
			}
			sequence++
		}
		time.Sleep(20 * time.Millisecond)
		at, err := control.Do(t.Context(), control.B().SentinelGetMasterAddrByName().Master("primary").Build()).AsStrSlice()
		return err == nil && len(at) == 2 && at[0]+":"+at[1] == replica.Addr
	})
	primary.Kill()
	for _, w := range writers {
		add(t, w, sequence, last)
		end(t, w, last+1)
	}
	readers.Wait()
	w, _ := create(t, b, "new")
	end(t, w, 1)
}
