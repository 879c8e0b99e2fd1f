{{/* A Deployment of an Airflow process of the control plane. Takes root, component, spec (a Component), command, and
     optionally team, account, ports, probes, env, mounts, volumes. */}}
{{- define "kommuna.airflowDeployment" -}}
{{- $root := .root }}
{{- $full := printf "%s-%s" .root.Release.Name .component }}
{{- if .team }}{{ $full = printf "%s-%s" $full .team }}{{ end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $full }}
  labels: {{- include "kommuna.labels" . | nindent 4 }}
spec:
  replicas: {{ .spec.replicas }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "kommuna.selector" . | nindent 6 }}
      {{- with .team }}
      kommuna/team: {{ . }}
      {{- end }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  template:
    metadata:
      labels:
        {{- include "kommuna.labels" . | nindent 8 }}
      annotations:
        kommuna/config: {{ include (print $root.Template.BasePath "/control/config.yaml") $root | sha256sum }}
    spec:
      serviceAccountName: {{ $root.Release.Name }}-{{ .component }}
      automountServiceAccountToken: {{ .account | default false }}
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      securityContext:
        {{- include "kommuna.podSecurity" . | nindent 8 }}
        fsGroup: 0
      {{- include "kommuna.pullSecrets" $root | nindent 6 }}
      initContainers:
        - name: wait-for-database
          image: {{ $root.Values.images.airflow }}
          imagePullPolicy: {{ $root.Values.images.pull_policy }}
          command: [python, -m, kommuna.cluster.prepared, airflow]
          securityContext: {{- include "kommuna.containerSecurity" . | nindent 12 }}
          env:
            {{- include "kommuna.preparedEnv" (dict "root" $root "key" "airflow") | nindent 12 }}
          resources:
            {{- include "kommuna.resources" (dict "cpu" "10m" "memory" "256Mi") | nindent 12 }}
      containers:
        - name: {{ .component }}
          image: {{ $root.Values.images.airflow }}
          imagePullPolicy: {{ $root.Values.images.pull_policy }}
          command: {{ toJson .command }}
          securityContext: {{- include "kommuna.containerSecurity" . | nindent 12 }}
          envFrom:
            - configMapRef: {name: {{ $root.Release.Name }}-airflow}
          env:
            {{- include "kommuna.airflowEnv" . | nindent 12 }}
            {{- with .env }}
            {{- tpl . $root | nindent 12 }}
            {{- end }}
          {{- with .ports }}
          ports: {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .probes }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
          resources:
            {{- include "kommuna.resources" .spec | nindent 12 }}
          volumeMounts:
            - {name: platform, mountPath: /etc/kommuna/kommuna.yaml, subPath: kommuna.yaml}
            - {name: pods, mountPath: /etc/kommuna/pods}
            - {name: work, mountPath: /airflow}
            - {name: tmp, mountPath: /tmp}
            {{- with .mounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: platform
          configMap: {name: {{ $root.Release.Name }}-platform}
        - name: pods
          configMap: {name: {{ $root.Release.Name }}-pods}
        - name: work
          emptyDir: {}
        - name: tmp
          emptyDir: {}
        {{- with .volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{/* A digest that identifies a database which is prepared for this release. */}}
{{- define "kommuna.preparedFor" -}}
{{- printf "%s %s %s" .Values.images.airflow .Values.images.steps (keys .Values.teams | sortAlpha | join ",") | sha256sum | trunc 16 -}}
{{- end }}
{{- define "kommuna.preparedEnv" -}}
- name: KOMMUNA_DATABASE
  valueFrom: {secretKeyRef: {name: {{ include "kommuna.databaseSecret" .root }}, key: {{ .key }}}}
- name: KOMMUNA_PREPARED_FOR
  value: {{ include "kommuna.preparedFor" .root | quote }}
{{- end }}

{{/* A disruption budget: two pods of a component are not evicted at once. Takes root, component, spec, and optionally team. */}}
{{- define "kommuna.disruptionBudget" -}}
{{- if gt (int .spec.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels: {{- include "kommuna.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "kommuna.selector" . | nindent 6 }}
{{- end }}
{{- end }}
