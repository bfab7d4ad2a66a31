package redis

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

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
	node, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{replica.Addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
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
