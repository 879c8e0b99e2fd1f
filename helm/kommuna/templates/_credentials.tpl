{{/* The input of `kommuna.cluster.credentials`: the Secrets to create, and those that the values name. */}}
{{- define "kommuna.wantedSecrets" -}}
{{- $root := . -}}
{{- $wanted := dict "release" .Release.Name "namespace" .Release.Namespace "logins" (include "kommuna.logins" . | fromJsonArray) -}}
{{- if .Values.postgresql.enabled }}{{ $_ := set $wanted "database_server" (printf "%s-postgresql.%s.svc:5432" .Release.Name .Release.Namespace) }}{{ end -}}
{{- $_ := set $wanted "database_secret" .Values.database_secret -}}
{{- $_ := set $wanted "passwords_secret" .Values.passwords_secret -}}
{{- $_ := set $wanted "store_secret" .Values.store_secret -}}
{{- $_ := set $wanted "mlflow_secret" .Values.mlflow.secret -}}
{{- if eq .Values.auth.kind "keycloak" }}
{{- $_ := set $wanted "auth_secret" .Values.auth.secret -}}
{{- $_ := set $wanted "auth_admin_secret" .Values.auth.admin_secret -}}
{{- $_ := set $wanted "auth_ca_secret" .Values.auth.ca_secret -}}
{{- end -}}
{{- $_ := set $wanted "pull_secrets" .Values.images.pull_secrets -}}
{{- $llm := dict -}}
{{- range $name, $endpoint := .Values.llm }}{{ with ($endpoint | default dict).secret }}{{ $_ := set $llm $name . }}{{ end }}{{ end -}}
{{- $_ := set $wanted "llm" $llm -}}
{{- $teams := dict -}}
{{- range $team, $spec := .Values.teams -}}
{{- $repository := include "kommuna.repository" (dict "root" $root "team" $team) | fromYaml -}}
{{- $_ := set $teams $team (dict "namespace" (include "kommuna.namespace" (dict "root" $root "team" $team)) "store_secret" ($spec.store_secret | default "") "registry_secret" ($spec.registry_secret | default "") "repository_secret" ($repository.secret | default "") "llm" (include "kommuna.llmSecrets" (dict "root" $root "team" $team) | fromJson)) -}}
{{- end -}}
{{- $_ := set $wanted "teams" $teams -}}
{{- toJson $wanted -}}
{{- end }}

{{/* Names of Secrets: those that the values name for the teams, and for the control plane alone; as JSON lists. */}}
{{- define "kommuna.teamsNamedSecrets" -}}
{{- $names := .Values.images.pull_secrets -}}
{{- range $spec := (include "kommuna.wantedSecrets" . | fromJson).teams -}}
{{- $names = append $names $spec.store_secret -}}
{{- range $spec.llm }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- compact $names | uniq | sortAlpha | toJson -}}
{{- end }}
{{- define "kommuna.platformsNamedSecrets" -}}
{{- $names := list .Values.database_secret .Values.passwords_secret .Values.store_secret .Values.mlflow.secret -}}
{{- range $spec := (include "kommuna.wantedSecrets" . | fromJson).teams }}{{ $names = concat $names (list $spec.repository_secret $spec.registry_secret) }}{{ end -}}
{{- range (include "kommuna.wantedSecrets" . | fromJson).llm }}{{ $names = append $names .name }}{{ end -}}
{{- if eq .Values.auth.kind "keycloak" }}{{ $names = concat $names (list .Values.auth.secret .Values.auth.admin_secret .Values.auth.ca_secret) }}{{ end -}}
{{- compact $names | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* The spec of a Job that creates Secrets. Takes root and part (platform or teams). */}}
{{- define "kommuna.credentialsSpec" -}}
{{- $labels := dict "root" .root "component" "credentials" -}}
backoffLimit: 3
activeDeadlineSeconds: 900
podFailurePolicy:
  rules: # a Secret that the values name and nobody has made does not come by trying again
    - {action: FailJob, onExitCodes: {operator: In, values: [2]}}
template:
  metadata:
    labels: {{- include "kommuna.labels" $labels | nindent 6 }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ .root.Release.Name }}-credentials-{{ .part }}
    automountServiceAccountToken: true
    enableServiceLinks: false
    securityContext:
      {{- include "kommuna.podSecurity" .root | nindent 6 }}
    {{- include "kommuna.pullSecrets" .root | nindent 4 }}
    containers:
      - name: credentials
        image: {{ .root.Values.images.airflow }}
        imagePullPolicy: {{ .root.Values.images.pull_policy }}
        command: [python, -m, kommuna.cluster.credentials, {{ .part }}]
        securityContext: {{- include "kommuna.containerSecurity" .root | nindent 10 }}
        env:
          - name: KOMMUNA_SECRETS
            value: {{ include "kommuna.wantedSecrets" .root | quote }}
        resources:
          {{- include "kommuna.resources" (dict "cpu" "10m" "memory" "256Mi") | nindent 10 }}
{{- end }}

{{/* The rules of a Role: the Secrets that it creates and keeps, and those that it only reads. Takes kept and read. */}}
{{- define "kommuna.credentialsRules" -}}
{{- if .kept -}}
- {apiGroups: [""], resources: [secrets], verbs: [create]}
- {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson .kept }}, verbs: [get, update]}
{{- end }}
{{- if .read }}
- {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson .read }}, verbs: [get]}
{{- end }}
{{- end }}
