package redis

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// subscription is the connection on which the store publishes to this process.
type subscription struct {
	mu        sync.Mutex              // guards all below, and is held for the round trip of a command
	client    rueidis.DedicatedClient // nil: there is no connection now
	connected chan struct{}           // closed when there is one again
	channels  map[string]int          // how many use each
	failed    error                   // why there is none
}

// add subscribes to a channel, and returns when the store has confirmed that. It is to be
// removed in any case.
func (s *subscription) add(ctx context.Context, name string, patience time.Duration) error {
	s.mu.Lock()
	s.channels[name]++
	if s.client != nil && s.channels[name] == 1 {
		// Not the caller's context: all others share the connection, which is given up only
		// when it does not answer.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		if s.client.Do(limited, s.client.B().Subscribe().Channel(name).Build()).Error() != nil {
			s.disconnectLocked()
		}
		cancel()
	}
	client, connected := s.client, s.connected
	s.mu.Unlock()
	if client != nil {
		return nil
	}
	select {
	case <-connected:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// remove gives a channel up.
func (s *subscription) remove(name string, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.channels[name]--; s.channels[name] > 0 {
		return
	}
	delete(s.channels, name)
	if s.client != nil {
		limited, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.client.Do(limited, s.client.B().Unsubscribe().Channel(name).Build())
	}
}

// connect has the channels subscribed to over a new connection.
func (s *subscription) connect(ctx context.Context, client rueidis.DedicatedClient) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Collect(maps.Keys(s.channels))
	if err := client.Do(ctx, client.B().Subscribe().Channel(names...).Build()).Error(); err != nil {
		s.failed = err
		return err
	}
	s.client, s.failed = client, nil
	close(s.connected)
	return nil
}

// disconnect notes that the connection is lost. Who adds a channel waits for the next one.
func (s *subscription) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disconnectLocked()
}

func (s *subscription) disconnectLocked() {
	if s.client != nil {
		s.client.Close()
		s.client, s.connected = nil, make(chan struct{})
	}
}

// keepSubscribed keeps a connection for what is published, until the journal is closed.
func (j *Journal) keepSubscribed() {
	for j.ctx.Err() == nil {
		j.receive()
		j.subscription.disconnect()
		j.outage.shake()
		select {
		case <-time.After(j.config.Patience / 20):
		case <-j.ctx.Done():
		}
	}
}

// receive receives what is published over one connection, until that is lost.
func (j *Journal) receive() {
	client, release := j.client.Dedicate()
	defer release()
	// In a cluster, a key says to which node; any does.
	limited, cancel := context.WithTimeout(j.ctx, j.config.Patience)
	err := client.Do(limited, client.B().Exists().Key(j.leaseKey(j.instance)).Build()).Error()
	cancel()
	if err != nil {
		return
	}
	lost := client.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage: func(m rueidis.PubSubMessage) { j.published(m.Channel, m.Message) },
	})
	limited, cancel = context.WithTimeout(j.ctx, j.config.Patience)
	err = j.subscription.connect(limited, client)
	cancel()
	if err != nil {
		return
	}
	j.rereadAll() // something may have been published in between
	select {
	case <-lost:
	case <-j.ctx.Done():
	}
}

// published takes in what the store has published on a channel.
func (j *Journal) published(channel, message string) {
	if channel == j.leaseKey(j.instance) {
		j.told(message)
		return
	}
	id := strings.TrimSuffix(strings.TrimPrefix(channel, j.config.Prefix+":{"), "}")
	j.mu.Lock()
	t := j.topics[id]
	j.mu.Unlock()
	if t != nil {
		t.published([]byte(message))
	}
}

// rereadAll has all followers look into the store.
func (j *Journal) rereadAll() {
	j.mu.Lock()
	topics := slices.Collect(maps.Values(j.topics))
	j.mu.Unlock()
	for _, t := range topics {
		t.mu.Lock()
		t.wake(true)
		t.mu.Unlock()
	}
}
