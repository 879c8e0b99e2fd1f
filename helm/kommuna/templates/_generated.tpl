{{/* Made by `make chart` from the models in kommuna: change them, not this file. */}}

{{- define "kommuna.teamDefaults" -}}
{"namespace": "", "keep_namespace": true, "store_secret": "", "people": {}, "own_images": false, "owner": "", "tags": [], "retries": 1, "parallelism": 4, "pools": {"default": 8}, "quota": {"cpu": "8", "memory": "16Gi", "pods": 20}}
{{- end }}

{{- define "kommuna.repositoryDefaults" -}}
{"ref": "main", "secret": ""}
{{- end }}

{{- define "kommuna.units" -}}
{"": 1, "Ki": 1024, "Mi": 1048576, "Gi": 1073741824, "Ti": 1099511627776, "k": 1000, "M": 1000000, "G": 1000000000, "T": 1000000000000}
{{- end }}

{{- define "kommuna.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kommuna.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
  - ALL
{{- end }}

{{- define "kommuna.workerPod" -}}
enableServiceLinks: false
restartPolicy: Never
{{- end }}

{{- define "kommuna.workerContainer" -}}
envFrom:
- secretRef:
    name: worker
{{- end }}

{{- define "kommuna.task" -}}
{"cpu": "1", "memory": "1Gi"}
{{- end }}

{{- define "kommuna.admin" -}}
admin
{{- end }}

{{- define "kommuna.airflowSettings" -}}
AIRFLOW__CORE__MULTI_TEAM: 'True'
AIRFLOW__CORE__ASSET_MANAGER_CLASS: kommuna.airflow.admission.publishing.PublishingAssetManager
AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION: 'False'
AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS: 'False'
AIRFLOW__API__WORKERS: '1'
AIRFLOW__API__INSTANCE_NAME: Kommuna
AIRFLOW__USAGE_DATA_COLLECTION__ENABLED: 'False'
{{- end }}

{{- define "kommuna.waitingSettings" -}}
{"AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "65", "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "30"}
{{- end }}

{{- define "kommuna.teamSettings" -}}
AIRFLOW__{{ upper .team }}___CORE__PARALLELISM: '{{ .spec.parallelism }}'
AIRFLOW__{{ upper .team }}___CORE__EXECUTION_API_SERVER_URL: '{{ include "kommuna.execution" .root }}'
AIRFLOW__{{ upper .team }}___KUBERNETES_EXECUTOR__NAMESPACE: '{{ include "kommuna.namespace" . }}'
AIRFLOW__{{ upper .team }}___KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE: '/etc/kommuna/pods/{{ .team }}.yaml'
AIRFLOW__{{ upper .team }}___KUBERNETES_EXECUTOR__DELETE_WORKER_PODS: 'True'
AIRFLOW__{{ upper .team }}___KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE: 'True'
AIRFLOW__{{ upper .team }}___KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE: '16'
AIRFLOW__{{ upper .team }}___KUBERNETES_EXECUTOR__TASK_PUBLISH_MAX_RETRIES: '-1'
{{- end }}
