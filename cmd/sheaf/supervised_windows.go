package main

import (
	"context"

	"github.com/kardianos/service"
)

// supervised runs the node under Windows' service manager, if that started this
// process: it wants to be told when the service has started, and tells when it
// is to stop.
func supervised(ctx context.Context, home string, run func(context.Context) error) error {
	if service.Interactive() {
		return run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &program{run: func() error { return run(ctx) }, cancel: cancel, done: make(chan struct{})}
	s, err := service.New(p, serviceConfig(home))
	if err != nil {
		return err
	}
	if err := s.Run(); err != nil {
		return err
	}
	return p.err
}

// A program is the node as the service manager sees it.
type program struct {
	run    func() error
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended
	err    error         // run's, once done is closed
}

// Start begins and does not wait, as the manager wants it.
func (p *program) Start(s service.Service) error {
	go func() {
		p.err = p.run()
		close(p.done) // before Stop, which waits for it
		if p.err != nil {
			_ = s.Stop() // it ended by itself: the manager is to know
		}
	}()
	return nil
}

// Stop returns when the node has stopped.
func (p *program) Stop(service.Service) error {
	p.cancel()
	<-p.done
	return nil
}
