package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/kardianos/service"
	"github.com/spf13/cobra"

	"sheaf/node/api"
)

// A manager is the system's manager of services (systemd, launchd, Windows), as
// far as it concerns the service of one home.
type manager interface {
	Install() error
	Uninstall() error
	Start() error
	Stop() error
	Status() (service.Status, error)
}

// unit is the systemd user unit: started at login, again after a crash, and
// without what a node never needs.
const unit = `[Unit]
Description={{Description}}
Documentation=man:sheaf(1)
After=network.target

[Service]
Type=exec
ExecStart={{Path | cmdEscape}}{{range Arguments}} {{. | cmd}}{{end}}
Restart=on-failure
RestartSec=5
TimeoutStopSec=15
NoNewPrivileges=true

[Install]
WantedBy=default.target
`

// agent is the launchd agent: started at login, again after a crash but not
// after a clean stop.
const agent = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>{{Name | html}}</string>
	<key>ProgramArguments</key>
	<array>
		<string>{{Path | html}}</string>
{{range Arguments}}		<string>{{. | html}}</string>
{{end}}	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ProcessType</key>
	<string>Background</string>
</dict>
</plist>
`

// serviceConfig describes the service of a home. Each home has one of its own.
func serviceConfig(home string) *service.Config {
	sum := sha256.Sum256([]byte(home))
	return &service.Config{
		Name:        "sheaf-" + hex.EncodeToString(sum[:4]),
		DisplayName: "Sheaf (" + home + ")",
		Description: "Sheaf, file sync from device to device (" + home + ")",
		Arguments:   []string{"up", "--home", home},
		Option: service.KeyValue{
			"UserService": true, "RunAtLoad": true,
			"SystemdScript": unit, "LaunchdConfig": agent,
			"OnFailure": "restart", "OnFailureDelayDuration": "5s", // Windows
		},
	}
}

// systemManager gives the manager of this system.
func systemManager(home string) (manager, error) {
	s, err := service.New(nothing{}, serviceConfig(home))
	if err != nil {
		return nil, api.Errorf(api.ErrFailed, "have `sheaf up` started by other means", "no manager of services was found here: %w", err)
	}
	return s, nil
}

// nothing is the program of a service that is not run by this process.
type nothing struct{}

// Start and Stop are service.Interface's.
func (nothing) Start(service.Service) error { return nil }
func (nothing) Stop(service.Service) error  { return nil }

func (a *app) serviceCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "service", Short: "Have the node run always",
		Long: "Has the system run the node from login on and again after a crash: as a systemd user unit, a launchd agent or a\n" +
			"Windows service. On Linux `loginctl enable-linger` has it run without a login too.",
		Example: example("sheaf service install", "sheaf service status", "sheaf service remove"),
	}
	c.AddCommand(a.serviceInstallCommand(), a.serviceRemoveCommand(), a.serviceStatusCommand())
	return c
}

func (a *app) serviceInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use: "install", Short: "Install and start the service", Args: cobra.NoArgs, Example: example("sheaf service install"),
		RunE: func(*cobra.Command, []string) error {
			if err := a.homeExists(); err != nil {
				return err
			}
			m, err := a.manager(a.home)
			if err != nil {
				return err
			}
			if err := m.Install(); err != nil {
				return serviceError("install", err)
			}
			if err := m.Start(); err != nil {
				return serviceError("start", err)
			}
			return nil
		},
	}
}

func (a *app) serviceRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove", Short: "Stop and remove the service", Args: cobra.NoArgs, Example: example("sheaf service remove"),
		Long: "Stops the service and removes it. The device, its folder and its state stay.",
		RunE: func(*cobra.Command, []string) error {
			m, err := a.manager(a.home)
			if err != nil {
				return err
			}
			if st, err := m.Status(); err == nil && st == service.StatusRunning {
				if err := m.Stop(); err != nil {
					return serviceError("stop", err)
				}
			}
			if err := m.Uninstall(); err != nil {
				return serviceError("remove", err)
			}
			return nil
		},
	}
}

func (a *app) serviceStatusCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "status", Short: "Tell whether the service is installed and runs", Args: cobra.NoArgs,
		Example: example("sheaf service status", "sheaf service status --json"),
		RunE: func(*cobra.Command, []string) error {
			m, err := a.manager(a.home)
			if err != nil {
				return err
			}
			state := "unknown"
			st, err := m.Status()
			switch {
			case errors.Is(err, service.ErrNotInstalled):
				state = "not installed"
			case err != nil:
				return serviceError("ask about", err)
			case st == service.StatusRunning:
				state = "running"
			case st == service.StatusStopped:
				state = "stopped"
			}
			if a.json {
				return a.answerJSON(struct {
					Name  string `json:"name"`
					State string `json:"state"`
				}{serviceConfig(a.home).Name, state})
			}
			return a.line("%s", state)
		},
	})
}

func serviceError(what string, err error) error {
	remedy := "have `sheaf up` started by other means"
	switch {
	case errors.Is(err, service.ErrNotInstalled):
		remedy = "install it with `sheaf service install`"
	case errors.Is(err, os.ErrPermission):
		remedy = "run this with the right to change services"
	}
	return &api.Error{Kind: api.ErrFailed, Message: fmt.Sprintf("the system did not %s the service: %s", what, err), Remedy: remedy, Cause: err}
}
