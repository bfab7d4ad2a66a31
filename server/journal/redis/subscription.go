package redis

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// maxChannels is how many channels one command names: the store does nothing else meanwhile.
const maxChannels = 1024

// subscription is the connection on which the store publishes to this process. What is to be
// subscribed to, and what is to be given up, is gathered while a command is under way, and
// goes with the next one: thousands of readers may come and go at once.
type subscription struct {
	changed chan struct{} // there is something in unsettled

	mu        sync.Mutex              // guards all below
	client    rueidis.DedicatedClient // nil: there is no connection now
	channels  map[string]*channel     // that are used, or subscribed to
	unsettled map[string]struct{}     // that may be used and not subscribed to, or the reverse
	failed    error                   // why there is no connection
	hears     bool                    // something has been subscribed to over the connection
	since     time.Time               // when that last began, or ceased
}

// channel is one that the store publishes on.
type channel struct {
	users      int
	subscribed bool          // the store has confirmed it, and has not been asked to end it
	confirmed  chan struct{} // closed when it is
}

func newSubscription() subscription {
	return subscription{
		changed:   make(chan struct{}, 1),
		channels:  map[string]*channel{},
		unsettled: map[string]struct{}{},
	}
}

// add subscribes to a channel, and returns when the store has confirmed that. It is to be
// removed in any case.
func (s *subscription) add(ctx context.Context, name string) error {
	select {
	case <-s.use(name):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// use counts a channel's user in. It returns what is closed when the store has confirmed it.
func (s *subscription) use(name string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[name]
	if c == nil {
		c = &channel{confirmed: make(chan struct{})}
		s.channels[name] = c
	}
	c.users++
	if !c.subscribed {
		s.noteLocked(name)
	}
	return c.confirmed
}

// remove gives a channel up, and does not wait for the store.
func (s *subscription) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.channels[name]; c != nil {
		if c.users--; c.users == 0 {
			s.noteLocked(name)
		}
	}
}

func (s *subscription) noteLocked(name string) {
	s.unsettled[name] = struct{}{}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// connect has what follows go over a new connection.
func (s *subscription) connect(client rueidis.DedicatedClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = client
}

// fail notes why there is no connection.
func (s *subscription) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
}

// update has the store publish on the channels that are used, and on no others, and tells
// of each that is subscribed to from now on. It returns when nothing has gathered any more,
// which may never be. One goroutine calls it.
func (s *subscription) update(ctx context.Context, client rueidis.DedicatedClient, patience time.Duration, subscribed func(channel string)) error {
	for {
		use, drop := s.gather()
		if len(use)+len(drop) == 0 {
			return nil
		}
		var commands []rueidis.Completed
		if len(use) > 0 {
			commands = append(commands, client.B().Subscribe().Channel(use...).Build())
		}
		if len(drop) > 0 {
			commands = append(commands, client.B().Unsubscribe().Channel(drop...).Build())
		}
		limited, cancel := context.WithTimeout(ctx, patience)
		for _, c := range commands {
			if err := client.Do(limited, c).Error(); err != nil {
				cancel()
				return err
			}
		}
		cancel()
		s.confirm(use)
		for _, name := range use {
			subscribed(name)
		}
	}
}

// hasHeard tells whether what is published has been heard for so long.
func (s *subscription) hasHeard(long time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hears && time.Since(s.since) >= long
}

// hearLocked notes whether what is published is heard.
func (s *subscription) hearLocked(hears bool) {
	if hears != s.hears {
		s.hears, s.since = hears, time.Now()
	}
}

// gather returns what is to be subscribed to now, and what is to be given up.
func (s *subscription) gather() (use, drop []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.unsettled {
		if len(use)+len(drop) == maxChannels {
			break
		}
		delete(s.unsettled, name)
		c := s.channels[name]
		switch {
		case c == nil:
		case c.users > 0 && !c.subscribed:
			use = append(use, name)
		case c.users == 0:
			if c.subscribed {
				drop = append(drop, name)
			}
			delete(s.channels, name) // who comes now subscribes behind that
		}
	}
	return use, drop
}

// confirm notes what is subscribed to.
func (s *subscription) confirm(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(names) > 0 {
		s.hearLocked(true)
	}
	for _, name := range names {
		c := s.channels[name]
		c.subscribed = true
		close(c.confirmed)
		if c.users == 0 {
			s.noteLocked(name)
		}
	}
}

// disconnect notes that the connection is lost, if there was one. Who adds a channel waits
// for the next one.
func (s *subscription) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hearLocked(false)
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
	for name, c := range s.channels {
		if c.users == 0 {
			delete(s.channels, name)
			continue
		}
		if s.unsettled[name] = struct{}{}; c.subscribed {
			c.subscribed, c.confirmed = false, make(chan struct{})
		}
	}
}

// keepSubscribed keeps a connection for what is published, until the journal is closed.
func (j *Journal) keepSubscribed() {
	for key := j.leaseKey(j.instance); j.ctx.Err() == nil; key = j.leaseKey(rand.Text()) {
		j.receive(key)
		j.subscription.disconnect()
		j.outage.shake()
		select {
		case <-time.After(j.config.Patience / 20):
		case <-j.ctx.Done():
		}
	}
}

// receive receives what is published over one connection, until that is lost. In a cluster
// the key says to which node, of which any does that can be had.
func (j *Journal) receive(key string) {
	client, release := j.client.Dedicate()
	defer release()
	limited, cancel := context.WithTimeout(j.ctx, j.config.Patience)
	err := client.Do(limited, client.B().Exists().Key(key).Build()).Error()
	cancel()
	if err != nil {
		return
	}
	lost := client.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage: func(m rueidis.PubSubMessage) { j.published(m.Channel, m.Message) },
	})
	j.subscription.connect(client)
	for {
		if err := j.subscription.update(j.ctx, client, j.config.Patience, j.reread); err != nil {
			j.subscription.fail(err)
			return
		}
		select {
		case <-j.subscription.changed:
		case <-lost:
			return
		case <-j.ctx.Done():
			return
		}
	}
}

// published takes in what the store has published on a channel.
func (j *Journal) published(channel, message string) {
	if channel == j.leaseKey(j.instance) {
		j.told(message)
		return
	}
	if t := j.topicOf(channel); t != nil {
		t.published([]byte(message))
	}
}

// reread has the followers look into the store who are told on a channel: something may have
// been published before that was subscribed to.
func (j *Journal) reread(channel string) {
	if t := j.topicOf(channel); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.wake(true)
	}
}

// topicOf returns the topic that a channel tells of, or nil.
func (j *Journal) topicOf(channel string) *topic {
	id := strings.TrimSuffix(strings.TrimPrefix(channel, j.config.Prefix+":{"), "}")
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.topics[id]
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
