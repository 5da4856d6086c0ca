package main

import (
	"context"

	"sheaf/node"
)

// realBackend is package node.
func realBackend() backend {
	return backend{
		init: func(ctx context.Context, o initOptions) (initResult, error) {
			r, err := node.Init(ctx, node.InitOptions{Home: o.Home, Name: o.Name, Dir: o.Dir})
			return initResult{Device: r.Device, Account: r.Account, RecoveryPhrase: r.RecoveryPhrase}, err
		},
		join: func(ctx context.Context, o joinOptions) (joinResult, error) {
			r, err := node.Join(ctx, node.JoinOptions{
				Home: o.Home, Name: o.Name, Dir: o.Dir, Code: o.Code, Timeout: o.Timeout, Confirm: o.Confirm,
			})
			return joinResult{Device: r.Device, Account: r.Account, Inviter: r.Inviter}, err
		},
		recover: func(ctx context.Context, o recoverOptions) (joinResult, error) {
			r, err := node.Recover(ctx, node.RecoverOptions{Home: o.Home, Name: o.Name, Dir: o.Dir, Phrase: o.Phrase, Relay: o.Relay, Timeout: o.Timeout})
			return joinResult{Device: r.Device, Account: r.Account}, err
		},
		run: func(ctx context.Context, o runOptions, ready func()) error {
			n, err := node.Open(ctx, node.Options{
				Home: o.Home, Listen: o.Listen, NoMDNS: o.NoMDNS, API: o.API, Version: o.Version, Log: o.Log,
			})
			if err != nil {
				return err
			}
			return n.Run(ctx, ready)
		},
	}
}
